import { expect, it } from 'vitest';
import { giveBackStartMemory } from './start-memory.ts';

const MB = 1024 * 1024;

/** Objects that nobody holds once this has returned. */
function litter(bytes: number): void {
  const held: string[][] = [];
  for (let made = 0; made < bytes; made += 8 * 1024) held.push(Array.from({ length: 1024 }, (_, i) => `${made} ${i}`));
  if (held.length === 0) throw new Error('nothing was made');
}

it('collects what nobody holds any more, but not in a large heap', () => {
  giveBackStartMemory(Infinity);
  const before = process.memoryUsage().heapUsed;
  litter(64 * MB);
  const littered = process.memoryUsage().heapUsed;
  giveBackStartMemory(1);
  expect(process.memoryUsage().heapUsed).toBeGreaterThan(littered - MB);
  giveBackStartMemory(Infinity);
  expect(process.memoryUsage().heapUsed).toBeLessThan(before + 8 * MB);
  // What another part of the process might find switched on is off again.
  expect('gc' in globalThis).toBe(false);
});
