import { existsSync, readFileSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unavailable, type Clock } from '../../base/index.ts';
import type { CgroupLayout } from './cgroup-layout.ts';

/** Looks at whether all processes have stopped: this often, and this many times. */
const POLL_MS = 2;
const POLLS_MAX = 1000;
/** cgroup v1: a process that was just forked may stay behind; the order is given again after so many looks. */
const REPEAT_POLLS = 25;

/**
 * Stops all processes of a control group where they are, or lets them go on, and waits until it is so. With cgroup v1
 * (hybrid too) the freezer controller does it, with v2 the file `cgroup.freeze` (kernel: cgroup-v1/freezer-subsystem.rst,
 * cgroup-v2.rst).
 * @throws ShoalError Unavailable when the kernel has no freezer, or processes do not stop in time (they are let go on).
 */
export async function setFrozen(layout: CgroupLayout, path: string, frozen: boolean, clock: Clock): Promise<void> {
  const v1 = layout.controllers.get('freezer');
  if (v1 !== undefined) return freezeV1(join(v1, path, 'freezer.state'), frozen, clock);
  const directory = join(layout.unified ?? '/sys/fs/cgroup', path);
  if (existsSync(join(directory, 'cgroup.freeze'))) return freezeV2(directory, frozen, clock);
  throw unavailable(
    'the kernel of this host cannot freeze processes: cgroup v1 without freezer, or v2 before Linux 5.2',
  );
}

async function freezeV1(file: string, frozen: boolean, clock: Clock): Promise<void> {
  const wanted = frozen ? 'FROZEN' : 'THAWED';
  for (let poll = 0; poll < POLLS_MAX; poll++) {
    if (poll % REPEAT_POLLS === 0) await writeFile(file, wanted);
    if ((await readFile(file, 'latin1')).trim() === wanted) return;
    await clock.sleep(POLL_MS);
  }
  if (frozen) await writeFile(file, 'THAWED');
  throw notInTime(frozen);
}

async function freezeV2(directory: string, frozen: boolean, clock: Clock): Promise<void> {
  await writeFile(join(directory, 'cgroup.freeze'), frozen ? '1' : '0');
  const wanted = `frozen ${frozen ? 1 : 0}\n`;
  for (let poll = 0; poll < POLLS_MAX; poll++) {
    if ((await readFile(join(directory, 'cgroup.events'), 'latin1')).includes(wanted)) return;
    await clock.sleep(POLL_MS);
  }
  if (frozen) await writeFile(join(directory, 'cgroup.freeze'), '0');
  throw notInTime(frozen);
}

function notInTime(frozen: boolean): Error {
  const what = frozen ? 'stop; they go on' : 'go on';
  return unavailable(`its processes do not ${what}: the kernel holds one of them, or is short of time; try again`);
}

/** Whether the processes of a group are stopped, or on their way to it. */
export function isFrozen(layout: CgroupLayout, path: string): boolean {
  const v1 = layout.controllers.get('freezer');
  const file = v1 === undefined ? join(layout.unified ?? '/sys/fs/cgroup', path, 'cgroup.freeze') : undefined;
  try {
    if (file !== undefined) return readFileSync(file, 'latin1').trim() === '1';
    return readFileSync(join(v1 ?? '', path, 'freezer.state'), 'latin1').trim() !== 'THAWED';
  } catch {
    // No freezer here, or the group is gone.
    return false;
  }
}

/** Lets a group go on that is about to be killed: cgroup v1 delivers no signal to stopped processes. */
export async function thawForKill(layout: CgroupLayout, path: string): Promise<void> {
  const v1 = layout.controllers.get('freezer');
  if (v1 === undefined) return;
  await writeFile(join(v1, path, 'freezer.state'), 'THAWED').catch(() => undefined);
}
