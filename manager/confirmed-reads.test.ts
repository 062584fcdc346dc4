import { expect, test } from 'vitest';
import { unavailable } from '../base/index.ts';
import { confirmReads } from './confirmed-reads.ts';
import type { Control } from './control/index.ts';

function control(calls: string[]): Control {
  const method = (name: string) => async (): Promise<object> => {
    calls.push(name);
    return await Promise.resolve({});
  };
  const names = ['GetService', 'ListServices', 'UpdateService'];
  return Object.fromEntries(names.map((name) => [name, method(name)])) as unknown as Control;
}

test('readings wait for the barrier, changes do not', async () => {
  const calls: string[] = [];
  const confirmed = confirmReads(control(calls), async () => {
    calls.push('barrier');
    await Promise.resolve();
  });
  await confirmed.GetService({} as never);
  await confirmed.ListServices({} as never);
  await confirmed.UpdateService({} as never);
  expect(calls).toEqual(['barrier', 'GetService', 'barrier', 'ListServices', 'UpdateService']);
});

test('a leader that nobody confirms answers no reading', async () => {
  const calls: string[] = [];
  const confirmed = confirmReads(control(calls), () => Promise.reject(unavailable('no leader confirmed the read')));
  await expect(confirmed.ListServices({} as never)).rejects.toThrow('no leader confirmed');
  expect(calls).toEqual([]);
});
