import { mkdir, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { invalidArgument } from '../../base/index.ts';
import type { MountRequest } from '../types.ts';
import type { OciMount } from './oci.ts';

/** Docker's size of /dev/shm, bytes. */
export const SHM_BYTES = 64 * 1024 * 1024;
const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'];

/** What every container has mounted. */
export function defaultMounts(privileged: boolean, shmBytes = SHM_BYTES): OciMount[] {
  const readOnly = privileged ? [] : ['ro'];
  const strict = ['nosuid', 'noexec', 'nodev'];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: strict },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...strict, ...readOnly] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...readOnly, ...strict] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: strict },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: [...strict, 'mode=1777', `size=${shmBytes}`],
    },
  ];
}

/** Checks a user's mount in Docker's words. @throws ShoalError InvalidArgument. */
export function checkMount(mount: MountRequest): void {
  const wrong = (why: string): Error => invalidArgument(`invalid mount config for type "${mount.type}": ${why}`);
  if (mount.target === '') throw wrong('field Target must not be empty');
  if (!posix.isAbsolute(mount.target)) throw wrong(`invalid mount path: '${mount.target}' mount path must be absolute`);
  if (posix.normalize(mount.target) === '/') throw wrong("invalid specification: destination can't be '/'");
  if (mount.type === 'bind') {
    if (mount.source === '') throw wrong('field Source must not be empty');
    if (!posix.isAbsolute(mount.source)) {
      throw wrong(`invalid mount path: '${mount.source}' mount path must be absolute`);
    }
    if (mount.propagation !== undefined && mount.propagation !== '' && !PROPAGATIONS.includes(mount.propagation)) {
      throw wrong(`invalid propagation mode: ${mount.propagation}`);
    }
  }
  if (mount.type === 'tmpfs' && mount.source !== '') throw wrong('field Source must not be specified');
}

/** Makes sure that the source of a bind exists. @throws ShoalError InvalidArgument in Docker's words. */
export async function prepareBindSource(mount: MountRequest): Promise<void> {
  try {
    await stat(mount.source);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    if (mount.createMountpoint !== true) {
      throw invalidArgument(`invalid mount config for type "bind": bind source path does not exist: ${mount.source}`);
    }
    await mkdir(mount.source, { recursive: true, mode: 0o755 });
  }
}

/** One mount of a user for the runtime. @param source host path of a bind or volume. */
export function userMount(mount: MountRequest, source: string): OciMount {
  const mode = mount.readOnly ? 'ro' : 'rw';
  if (mount.type === 'tmpfs') {
    const options = ['nosuid', 'nodev', 'noexec', mode];
    if (mount.tmpfsSizeBytes) options.push(`size=${mount.tmpfsSizeBytes}`);
    if (mount.tmpfsMode !== undefined) options.push(`mode=${mount.tmpfsMode.toString(8)}`);
    return { destination: mount.target, type: 'tmpfs', source: 'tmpfs', options };
  }
  const propagation = mount.propagation === undefined || mount.propagation === '' ? 'rprivate' : mount.propagation;
  return { destination: mount.target, type: 'bind', source, options: ['rbind', mode, propagation] };
}

/** A generated or injected file bound over its place. */
export function fileMount(source: string, destination: string, readOnly: boolean): OciMount {
  return { destination, type: 'bind', source, options: ['bind', readOnly ? 'ro' : 'rw', 'rprivate'] };
}

/** Mounts sorted so that an outer one comes before one inside it. */
export function sortMounts(mounts: readonly OciMount[]): OciMount[] {
  const depth = (mount: OciMount): number => posix.normalize(mount.destination).split('/').length;
  return [...mounts].sort((a, b) => depth(a) - depth(b));
}
