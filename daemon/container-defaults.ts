import { readFileSync } from 'node:fs';
import { errorMessage, invalidArgument } from '../base/index.ts';
import { byteSize, type ContainerDefaults } from '../engine/index.ts';
import type { FlagName, FlagValues } from './flags.ts';

/** What containers get that say nothing themselves, and the runtimes that they may name. */
export interface ContainerSettings {
  /** Name of the runtime of containers that name none; empty: the first that works. */
  runtime: string;
  /** Name → path. */
  runtimes: Record<string, string>;
  defaults: ContainerDefaults;
  /** Who makes control groups; left out: by this host. */
  cgroupDriver?: 'cgroupfs' | 'systemd';
}

const wrong = (flag: FlagName, text: string, want: string): Error =>
  invalidArgument(`invalid argument "${text}" for "--${flag}" flag: ${want}`);

function choice<T extends string>(flag: FlagName, text: string, words: readonly T[]): T {
  const found = words.find((word) => word === text);
  if (found === undefined) throw wrong(flag, text, `${words.join(' or ')} is expected`);
  return found;
}

function shmBytes(text: string): number {
  try {
    return byteSize(text);
  } catch {
    throw wrong('default-shm-size', text, 'a size as 64M is expected');
  }
}

/** The text of a profile, or a word that stands for one. */
function seccomp(path: string): string {
  if (path === 'unconfined' || path === 'builtin') return path;
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    throw wrong('seccomp-profile', path, `opening seccomp profile failed: ${errorMessage(error)}`);
  }
}

/** The driver of control groups; the last one counts. @throws ShoalError InvalidArgument in Docker's words */
function execOptions(options: readonly string[]): Pick<ContainerSettings, 'cgroupDriver'> {
  const drivers = options.map((option) => {
    const [, driver] = /^native\.cgroupdriver=(.*)$/i.exec(option) ?? [];
    if (driver === undefined) throw wrong('exec-opt', option, 'native.cgroupdriver is known');
    const known = (['cgroupfs', 'systemd'] as const).find((name) => name === driver);
    if (known === undefined) throw invalidArgument(`native.cgroupdriver option ${driver} not supported`);
    return known;
  });
  const last = drivers.at(-1);
  return last === undefined ? {} : { cgroupDriver: last };
}

/** @throws ShoalError InvalidArgument naming the flag */
export function containerSettings(values: FlagValues): ContainerSettings {
  const text = (name: FlagName): string => (values[name] as string | undefined) ?? '';
  const list = (name: FlagName): string[] => (values[name] as string[] | undefined) ?? [];
  const runtimes = list('add-runtime').map((entry): [string, string] => {
    const cut = entry.indexOf('=');
    const [name, path] = [entry.slice(0, cut), entry.slice(cut + 1)];
    if (cut <= 0 || path === '') throw wrong('add-runtime', entry, 'name=path is expected');
    return [name, path];
  });
  const [ipc, cgroupns, shm] = [text('default-ipc-mode'), text('default-cgroupns-mode'), text('default-shm-size')];
  const [profile, initPath] = [text('seccomp-profile'), text('init-path')];
  return {
    runtime: text('default-runtime'),
    runtimes: Object.fromEntries(runtimes),
    ...execOptions(list('exec-opt')),
    defaults: {
      ...(values['no-new-privileges'] === true ? { noNewPrivileges: true } : {}),
      ...(ipc === '' ? {} : { ipcMode: choice('default-ipc-mode', ipc, ['private', 'shareable'] as const) }),
      ...(cgroupns === ''
        ? {}
        : { cgroupnsMode: choice('default-cgroupns-mode', cgroupns, ['host', 'private'] as const) }),
      ...(shm === '' ? {} : { shmBytes: shmBytes(shm) }),
      ...(profile === '' ? {} : { seccomp: seccomp(profile) }),
      ...(initPath === '' ? {} : { initPath }),
    },
  };
}
