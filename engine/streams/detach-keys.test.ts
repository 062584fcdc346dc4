import { describe, expect, it } from 'vitest';
import { SeededRandom } from '../../base/index.ts';
import { DetachFilter, parseDetachKeys } from './detach-keys.ts';

describe('parseDetachKeys', () => {
  it('reads what docker reads', () => {
    expect([...parseDetachKeys('')]).toEqual([16, 17]);
    expect([...parseDetachKeys('ctrl-p,ctrl-q')]).toEqual([16, 17]);
    expect([...parseDetachKeys('ctrl-@,ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_')]).toEqual([0, 27, 28, 29, 30, 31]);
    expect([...parseDetachKeys('a,Z,ctrl-A')]).toEqual([97, 90, 1]);
  });

  it.each(['ctrl-', 'ctrl-1', 'shift-a', 'ab', 'a,,b', 'ü', Array.from({ length: 65 }, () => 'a').join(',')])(
    'refuses %s',
    (text) => expect(() => parseDetachKeys(text)).toThrow(`Invalid detach keys (${text}) provided`),
  );
});

/** The same by looking at the whole input at once. */
function expected(keys: Uint8Array, input: Uint8Array): { data: Uint8Array; detached: boolean } {
  const at = Buffer.from(input).indexOf(keys);
  if (at >= 0) return { data: input.subarray(0, at), detached: true };
  let held = Math.min(keys.length - 1, input.length);
  while (held > 0 && !Buffer.from(keys.subarray(0, held)).equals(input.subarray(input.length - held))) held--;
  return { data: input.subarray(0, input.length - held), detached: false };
}

describe('DetachFilter', () => {
  it('finds the sequence wherever packets end, and changes nothing else (2,000 random inputs)', () => {
    const random = new SeededRandom(7);
    const byte = (): number => 1 + random.int(3);
    for (let round = 0; round < 2000; round++) {
      const keys = Uint8Array.from({ length: 1 + random.int(5) }, byte);
      const input = Uint8Array.from({ length: random.int(40) }, byte);
      const filter = new DetachFilter(keys);
      const out: number[] = [];
      let detached = false;
      for (let at = 0; at < input.length && !detached;) {
        const size = 1 + random.int(6);
        const result = filter.feed(input.subarray(at, at + size));
        out.push(...result.data);
        ({ detached } = result);
        at += size;
      }
      const want = expected(keys, input);
      expect({ keys, input, out, detached }).toEqual({ keys, input, out: [...want.data], detached: want.detached });
    }
  });

  it('is found after a beginning of itself', () => {
    const filter = new DetachFilter(parseDetachKeys(''));
    expect(filter.feed(Uint8Array.of(16))).toEqual({ data: new Uint8Array(), detached: false });
    expect(filter.feed(Uint8Array.of(16, 17))).toEqual({ data: Uint8Array.of(16), detached: true });
  });
});
