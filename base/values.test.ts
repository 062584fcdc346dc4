/** Randomness, ids, errors, assertions. */
import { describe, expect, it } from 'vitest';
import { assert, AssertionFailure, must, unreachable } from './assert.ts';
import { codeFromGrpc, ERROR_CATALOGUE, errorMessage, isShoalError, notFound, ShoalError } from './errors.ts';
import { ID_LENGTH, newHexId, newId } from './ids.ts';
import { SeededRandom, systemRandom } from './random.ts';

describe('randomness', () => {
  it('repeats for a seed, and differs between seeds', () => {
    const take = (seed: number): number[] => {
      const random = new SeededRandom(seed);
      return Array.from({ length: 8 }, () => random.int(1000));
    };
    expect(take(7)).toEqual(take(7));
    expect(take(7)).not.toEqual(take(8));
  });

  it.each([
    ['seeded', new SeededRandom(1)],
    ['system', systemRandom],
  ])('is spread over the whole range (%s)', (_name, random) => {
    const counts = Array.from({ length: 10 }, () => 0);
    for (let i = 0; i < 10_000; i++) {
      const value = random.int(10);
      counts[value] = (counts[value] ?? 0) + 1;
      expect(random.float()).toBeLessThan(1);
    }
    // Standard deviation is 30; nine of them never happen.
    expect(Math.min(...counts)).toBeGreaterThan(730);
    expect(Math.max(...counts)).toBeLessThan(1270);
    expect(() => random.int(0)).toThrow('positive');
  });

  it('gives as many bytes as asked for, never the same twice', () => {
    expect(systemRandom.bytes(0)).toHaveLength(0);
    expect(systemRandom.bytes(10_000)).toHaveLength(10_000);
    const seen = new Set(Array.from({ length: 2000 }, () => Buffer.from(systemRandom.bytes(16)).toString('hex')));
    expect(seen.size).toBe(2000);
  });
});

describe('ids', () => {
  it('look like those of swarm', () => {
    const ids = new Set(Array.from({ length: 1000 }, () => newId()));
    expect(ids.size).toBe(1000);
    for (const id of ids) expect(id).toMatch(new RegExp(`^[0-9a-z]{${ID_LENGTH}}$`));
    expect(newId(new SeededRandom(3))).toBe(newId(new SeededRandom(3)));
    expect(newHexId()).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe('errors', () => {
  it('carry both statuses', () => {
    const error = notFound('No such container: x');
    expect([error.httpStatus, error.grpcStatus, error.message]).toEqual([404, 5, 'No such container: x']);
    expect(isShoalError(error)).toBe(true);
    expect(isShoalError(error, 'Conflict', 'NotFound')).toBe(true);
    expect(isShoalError(error, 'Conflict')).toBe(false);
    expect(isShoalError(new Error('x'))).toBe(false);
    expect(new ShoalError('Internal', 'x', { cause: error }).cause).toBe(error);
  });

  it('come back from their gRPC numbers', () => {
    for (const [code, { grpc }] of Object.entries(ERROR_CATALOGUE)) {
      if (['Conflict', 'NotModified', 'Unknown'].includes(code)) continue;
      expect(codeFromGrpc(grpc)).toBe(code);
    }
    expect(codeFromGrpc(10)).toBe('Aborted');
    expect(codeFromGrpc(2)).toBe('Unknown');
    expect(codeFromGrpc(99)).toBe('Unknown');
  });

  it('have a text whatever was thrown', () => {
    expect(errorMessage(new Error('a'))).toBe('a');
    expect(errorMessage('b')).toBe('b');
  });
});

describe('assertions', () => {
  it('stay on', () => {
    expect(() => assert(false, 'broken')).toThrow(AssertionFailure);
    expect(() => unreachable('x' as never)).toThrow('unreachable: "x"');
    expect(must(0, 'zero')).toBe(0);
    expect(() => must(null, 'the thing')).toThrow('the thing is missing');
  });
});
