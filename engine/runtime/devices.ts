import { lstatSync, readdirSync, realpathSync, statSync, type Stats } from 'node:fs';
import { join } from 'node:path';
import { errorMessage, invalidArgument } from '../../base/index.ts';
import type { DeviceMapping } from '../types.ts';
import type { OciDevice, OciDeviceRule } from './oci.ts';

/** Nodes of one container; more would be a directory by mistake. */
const DEVICES_MAX = 4096;
/** Directories of /dev that belong to the host's own terminals and memory. */
const HOST_ONLY = ['pts', 'shm', 'mqueue', 'fd', '.udev', '.lxc', '.lxd-mounts'];
const RULE = /^([acb]) ([0-9]+|\*):([0-9]+|\*) ([rwm]{1,3})$/;

/** Numbers of a device: dev_t as glibc composes it (minor bits 0–7 and 20–31, major bits 8–19 and above 32). */
export function deviceNumbers(rdev: number): { major: number; minor: number } {
  const [low, high] = [rdev % 2 ** 32, Math.floor(rdev / 2 ** 32)];
  return { major: ((low >>> 8) & 0xfff) + (high & ~0xfff), minor: (low & 0xff) + ((low >>> 12) & 0xfff00) };
}

function deviceOf(path: string, info: Stats): OciDevice | undefined {
  if (!info.isCharacterDevice() && !info.isBlockDevice()) return undefined;
  const type = info.isBlockDevice() ? 'b' : 'c';
  return { path, type, ...deviceNumbers(info.rdev), fileMode: info.mode & 0o777, uid: info.uid, gid: info.gid };
}

/** All device nodes below a directory, by their own paths. */
function devicesBelow(directory: string, skip: readonly string[]): OciDevice[] {
  const found: OciDevice[] = [];
  const visit = (current: string): void => {
    for (const entry of readdirSync(current, { withFileTypes: true })) {
      const path = join(current, entry.name);
      if (entry.isDirectory() && !skip.includes(entry.name)) visit(path);
      if (!entry.isCharacterDevice() && !entry.isBlockDevice()) continue;
      const device = found.length < DEVICES_MAX ? deviceOf(path, lstatSync(path)) : undefined;
      if (device !== undefined) found.push(device);
    }
  };
  visit(directory);
  return found;
}

/** All device nodes of the host, for a privileged container. */
export function hostDevices(): OciDevice[] {
  return devicesBelow('/dev', HOST_ONLY).filter(({ path }) => path !== '/dev/console');
}

/**
 * The nodes that a mapping shows: one, or all below a directory. Links are followed.
 * @throws ShoalError InvalidArgument in Docker's words when there is no device.
 */
export function mappedDevices({ pathOnHost, pathInContainer }: DeviceMapping): OciDevice[] {
  const fail = (why: string): Error =>
    invalidArgument(
      `error gathering device information while adding custom device ${JSON.stringify(pathOnHost)}: ${why}`,
    );
  let real: string;
  let info: Stats;
  try {
    real = realpathSync(pathOnHost);
    info = statSync(real);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw fail(missing ? 'no such file or directory' : errorMessage(error));
  }
  const one = deviceOf(pathInContainer, info);
  if (one !== undefined) return [one];
  const below = info.isDirectory() ? devicesBelow(real, []) : [];
  if (below.length === 0) throw fail('not a device node');
  return below.map((device) => ({ ...device, path: pathInContainer + device.path.slice(real.length) }));
}

/** A rule that lets a container use a device. */
export function allowDevice({ type, major, minor }: OciDevice, access: string): OciDeviceRule {
  return { allow: true, type, major, minor, access };
}

/** Checks letters of a mapping. @throws ShoalError InvalidArgument */
export function checkDeviceMapping({ pathOnHost, pathInContainer, permissions }: DeviceMapping): void {
  if (pathOnHost === '') throw invalidArgument('invalid device mapping: PathOnHost must not be empty');
  if (!pathInContainer.startsWith('/')) throw invalidArgument(`${pathInContainer} is not an absolute path`);
  if (!/^[rwm]{1,3}$/.test(permissions)) throw invalidArgument(`invalid device mode: ${permissions}`);
}

/** Rules of `--device-cgroup-rule`; a star leaves the number open. @throws ShoalError InvalidArgument */
export function deviceRule(text: string): OciDeviceRule {
  const form = RULE.exec(text);
  if (form === null) throw invalidArgument(`invalid device cgroup rule format: '${text}'`);
  const [, type = 'a', major = '*', minor = '*', access = ''] = form;
  return {
    allow: true,
    type: type as 'a' | 'b' | 'c',
    ...(major === '*' ? {} : { major: Number(major) }),
    ...(minor === '*' ? {} : { minor: Number(minor) }),
    access,
  };
}
