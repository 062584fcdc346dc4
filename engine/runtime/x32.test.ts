import { arch } from 'node:os';
import { expect, test } from 'vitest';
import { directSpawner } from '../../base/index.ts';
import { runsProgram, runsX32, trialProgram, TRIAL_MACHINES } from './x32.ts';

test.runIf(arch() === 'x64')('a program that the kernel cannot run is told from one that it can', async () => {
  const broken = trialProgram(0xffff);
  expect(await runsProgram(directSpawner, broken)).toBe(false);
  // The same bytes for i386 run wherever 32-bit emulation is on, which shows that the form of the file is right.
  const i386 = await runsProgram(directSpawner, trialProgram(TRIAL_MACHINES.i386));
  const x32 = await runsX32(directSpawner);
  expect([i386, x32].every((answer) => typeof answer === 'boolean')).toBe(true);
  if (x32) expect(i386).toBe(true);
});
