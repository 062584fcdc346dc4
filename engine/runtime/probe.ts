import { access, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { constants, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, release } from 'node:os';
import { delimiter, join } from 'node:path';
import {
  errorMessage,
  failedPrecondition,
  mount,
  newHexId,
  unmount,
  type Random,
  type Spawner,
  kernelRunsX32,
} from '../../base/index.ts';

import { groupFor, isScope, type GroupPlace } from './cgroup-driver.ts';
import { readCgroupLayout, type CgroupLayout, type Cgroups } from './cgroups.ts';

/** Runtimes in the order in which they are tried. */
export const RUNTIMES: readonly string[] = ['runc', 'crun', 'youki'];
const PROBE_TIMEOUT_MS = 20_000;

export interface RuntimeFacts {
  /** Name and full path of the OCI runtime that works here. */
  name: string;
  path: string;
  version: string;
  conmonPath: string;
  conmonVersion: string;
  cgroups: CgroupLayout;
  kernel: string;
  /** Whether swap can be limited together with memory. */
  swapAccounting: boolean;
  /** Whether the kernel runs x32 programs (CONFIG_X86_X32_ABI). */
  x32: boolean;
}

/** Full path of a program on PATH (and the system's own directories), or undefined. */
export async function findProgram(name: string): Promise<string | undefined> {
  const directories = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/bin', '/sbin', '/bin'];
  for (const directory of directories.filter(Boolean)) {
    const path = join(directory, name);
    const usable = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (usable) return path;
  }
  return undefined;
}

async function versionOf(spawner: Spawner, path: string): Promise<string> {
  const result = await spawner.run({ file: path, args: ['--version'], timeoutMs: PROBE_TIMEOUT_MS });
  return /version:? v?([\w.+~-]+)/.exec(result.stdout.toString('utf8'))?.[1] ?? 'unknown';
}

export interface ProbeOptions {
  spawner: Spawner;
  random: Random;
  cgroups: Cgroups;
  /** Where the trial container is put. */
  groups: GroupPlace;
}

/** A program that exists in any root file system we can make: none. The trial stops at its absence, after all else. */
function trialConfig(rootPath: string, cgroupPath: string): object {
  return {
    ociVersion: '1.0.2',
    process: { terminal: false, user: { uid: 0, gid: 0 }, args: ['/shoal-probe'], env: [], cwd: '/' },
    root: { path: rootPath, readonly: true },
    mounts: [{ destination: '/proc', type: 'proc', source: 'proc' }],
    linux: {
      cgroupsPath: cgroupPath,
      namespaces: ['mount', 'pid', 'ipc', 'uts', 'network'].map((type) => ({ type })),
      resources: { devices: [{ allow: false, access: 'rwm' }] },
    },
  };
}

/**
 * Tries whether a runtime can make a container here: it gets one whose program does not exist, so a working runtime
 * fails with "no such file" after it made namespaces, mounts and control groups. Returns its complaint otherwise.
 */
export async function tryRuntime(path: string, options: ProbeOptions): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'shoal-probe-'));
  const id = `shoal-probe-${newHexId(options.random).slice(0, 12)}`;
  const group = groupFor(options.groups, undefined, id);
  try {
    mkdirSync(join(directory, 'root/proc'), { recursive: true });
    const config = trialConfig(join(directory, 'root'), group.runtimePath);
    await writeFile(join(directory, 'config.json'), JSON.stringify(config));
    const state = ['--root', join(directory, 'state'), ...(isScope(group.path) ? ['--systemd-cgroup'] : [])];
    const result = await options.spawner.run({
      file: path,
      args: [...state, 'run', '--bundle', directory, id],
      timeoutMs: PROBE_TIMEOUT_MS,
    });
    const words = result.stderr.toString('utf8').trim();
    if (/shoal-probe["`']?:? .*no such file|executable file .*not found/i.test(words)) return undefined;
    return words === '' ? `it ended with ${result.code ?? result.signal} and no words` : words;
  } finally {
    await options.cgroups.destroy(group.path);
    await rm(directory, { recursive: true, force: true });
  }
}

/**
 * Chooses the runtime that works on this host and finds conmon.
 * @param wanted a runtime's name or path to use instead of the first that works.
 * @throws ShoalError FailedPrecondition naming what is missing and the package that has it.
 */
export async function probeRuntime(options: ProbeOptions, wanted?: string): Promise<RuntimeFacts> {
  const conmonPath = await findProgram('conmon');
  if (conmonPath === undefined) throw failedPrecondition('conmon is not installed; install the package conmon');
  const complaints: string[] = [];
  for (const name of wanted === undefined ? RUNTIMES : [wanted]) {
    const path = name.startsWith('/') ? name : await findProgram(name);
    if (path === undefined) {
      complaints.push(`${name}: not installed`);
      continue;
    }
    const complaint = await tryRuntime(path, options).catch(errorMessage);
    if (complaint !== undefined) {
      complaints.push(`${name}: ${complaint}`);
      continue;
    }
    const { layout } = options.cgroups;
    return {
      name: name.split('/').at(-1) as string,
      path,
      version: await versionOf(options.spawner, path),
      conmonPath,
      conmonVersion: await versionOf(options.spawner, conmonPath),
      cgroups: layout,
      kernel: release(),
      swapAccounting: await hasSwapAccounting(layout),
      x32: kernelRunsX32(),
    };
  }
  throw failedPrecondition(`no OCI runtime works here; install the package runc. Tried ${complaints.join('; ')}`);
}

async function hasSwapAccounting(layout: CgroupLayout): Promise<boolean> {
  const memory = layout.controllers.get('memory');
  // In v2 the root has no swap files, but kernels since 5.8 account for swap whenever they have swap at all.
  const file = memory === undefined ? '/proc/swaps' : join(memory, 'memory.memsw.limit_in_bytes');
  return access(file).then(
    () => true,
    () => false,
  );
}

/** Checks that overlayfs can be mounted below `directory`. @returns the complaint, if any. */
export function tryOverlay(directory: string): string | undefined {
  const base = mkdtempSync(join(directory, 'probe-'));
  try {
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(base, name));
    const data = `lowerdir=${base}/lower,upperdir=${base}/upper,workdir=${base}/work`;
    mount('overlay', join(base, 'merged'), 'overlay', 0, data);
    unmount(join(base, 'merged'));
    return undefined;
  } catch (error) {
    return errorMessage(error);
  } finally {
    rmSync(base, { recursive: true, force: true });
  }
}

/** What is wrong with this host, one sentence each with the way out; empty when containers and overlays can run. */
export async function probeHost(options: ProbeOptions & { dataRoot: string; runtime?: string }): Promise<string[]> {
  const problems: string[] = [];
  if (process.getuid?.() !== 0) problems.push('the daemon must run as root');
  const overlay = tryOverlay(options.dataRoot);
  if (overlay !== undefined) problems.push(`overlayfs cannot be mounted under ${options.dataRoot}: ${overlay}`);
  await probeRuntime(options, options.runtime).catch((error: unknown) => problems.push(errorMessage(error)));
  for (const [program, packageName] of [
    ['nft', 'nftables'],
    ['ip', 'iproute2'],
    ['tar', 'tar'],
    ['nsenter', 'util-linux'],
  ] as const) {
    if ((await findProgram(program)) === undefined) {
      problems.push(`${program} is not installed; install the package ${packageName}`);
    }
  }
  const vxlan = await tryVxlan(options);
  if (vxlan !== undefined) problems.push(vxlan);
  if (readCgroupLayout().controllers.size === 0 && readCgroupLayout().unified === undefined) {
    problems.push('no control groups are mounted; mount cgroup2 at /sys/fs/cgroup');
  }
  return problems;
}

/** Makes a VXLAN device in a network namespace that ends with the command. */
async function tryVxlan(options: ProbeOptions): Promise<string | undefined> {
  const command = 'ip link add shoalprobe type vxlan id 4095 dstport 4789 nolearning';
  try {
    const result = await options.spawner.run({
      file: 'unshare',
      args: ['--net', 'sh', '-c', command],
      timeoutMs: PROBE_TIMEOUT_MS,
    });
    if (result.code === 0) return undefined;
    const words = result.stderr.toString('utf8').trim();
    return `vxlan devices cannot be made (${words}); load the kernel module vxlan`;
  } catch (error) {
    return `vxlan cannot be tried: ${errorMessage(error)}; install the package util-linux`;
  }
}
