import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { chown, mkdir, stat } from 'node:fs/promises';
import { posix } from 'node:path';
import { failedPrecondition, invalidArgument } from '../../base/index.ts';
import type { ContainerConfig, MountRequest } from '../types.ts';
import type { OciMount } from './oci.ts';
import { tmpfsOptions } from './tmpfs.ts';

/** Docker's size of /dev/shm, bytes. */
export const SHM_BYTES = 64 * 1024 * 1024;
const PROPAGATIONS = ['private', 'rprivate', 'shared', 'rshared', 'slave', 'rslave'];
const STRICT = ['nosuid', 'noexec', 'nodev'];

type BaseOptions = Pick<ContainerConfig, 'privileged' | 'writableCgroups' | 'shmBytes' | 'ipcMode' | 'idMapping'>;

/** Flags of a mount that whoever binds it in a user namespace must keep (mount_namespaces(7)). */
const LOCKED = ['ro', 'nosuid', 'nodev', 'noexec', 'noatime', 'nodiratime', 'relatime'];

/**
 * What every container has mounted.
 * @param shm host directory of memory shared with others; undefined: one of its own, or none in ipc mode `none`.
 */
export function defaultMounts(config: BaseOptions, shm?: string): OciMount[] {
  const readOnly = (writable: boolean): string[] => (writable ? [] : ['ro']);
  const cgroups = readOnly(config.writableCgroups ?? config.privileged);
  const devpts = ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'];
  const dev = ['nosuid', 'strictatime', 'mode=755', 'size=65536k'];
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: STRICT },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: dev },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: devpts },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...STRICT, ...readOnly(config.privileged)] },
    { destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: [...cgroups, ...STRICT] },
    ...queueMount(config),
    ...shmMount(config, shm),
  ];
}

function queueMount({ ipcMode, idMapping }: BaseOptions): OciMount[] {
  const destination = '/dev/mqueue';
  if (idMapping === undefined || ipcMode !== 'host') {
    return [{ destination, type: 'mqueue', source: 'mqueue', options: STRICT }];
  }
  // The host's queues do not belong to the container's user namespace: it cannot mount them, but they can be shown.
  const bind = { destination, type: 'bind', source: destination, options: ['rbind', 'rprivate', ...STRICT] };
  return existsSync(destination) ? [bind] : [];
}

function shmMount({ ipcMode, shmBytes }: BaseOptions, shared: string | undefined): OciMount[] {
  const destination = '/dev/shm';
  if (ipcMode === 'none') return [];
  if (shared !== undefined) {
    return [{ destination, type: 'bind', source: shared, options: ['rbind', 'rprivate', ...STRICT] }];
  }
  return [{ destination, type: 'tmpfs', source: 'shm', options: shmOptions(shmBytes) }];
}

/** Mount options of a /dev/shm. */
export function shmOptions(sizeBytes = SHM_BYTES): string[] {
  return [...STRICT, 'mode=1777', `size=${sizeBytes}`];
}

/** Default mounts that no mount of the user takes the place of; one on /dev hides all below it. */
export function keptDefaults(defaults: readonly OciMount[], user: readonly OciMount[]): OciMount[] {
  const taken = new Set(user.map(({ destination }) => posix.normalize(destination)));
  return defaults.filter(
    ({ destination }) => !taken.has(destination) && !(taken.has('/dev') && destination.startsWith('/dev/')),
  );
}

/** Checks a user's mount in Docker's words. @throws ShoalError InvalidArgument. */
export function checkMount(mount: MountRequest): void {
  const before = mount.from === 'bind' ? `invalid volume specification: '${bindText(mount)}': ` : '';
  const kind = mount.from === 'tmpfs' ? '' : `invalid mount config for type "${mount.type}": `;
  const wrong = (why: string): Error => invalidArgument(`${before}${kind}${why}`);
  const path = (text: string): void => {
    if (!posix.isAbsolute(text)) throw wrong(`invalid mount path: '${text}' mount path must be absolute`);
  };
  if (mount.target === '') throw wrong('field Target must not be empty');
  for (const text of [mount.source, mount.target]) {
    if (text.includes('\0')) throw wrong(`invalid mount path: ${JSON.stringify(text)} must not contain a null byte`);
  }
  if (posix.normalize(mount.target) === '/') throw wrong("invalid specification: destination can't be '/'");
  path(mount.target);
  switch (mount.type) {
    case 'bind':
      if (mount.source === '') throw wrong('field Source must not be empty');
      path(mount.source);
      checkBind(mount, wrong);
      return;
    case 'volume':
      checkSubpath(mount.volumeSubpath, mount.source === '', wrong);
      if (mount.readOnly && mount.source === '' && mount.from !== 'bind') {
        throw wrong('must not set ReadOnly mode when using anonymous volumes');
      }
      return;
    case 'tmpfs':
      if (mount.source !== '') throw wrong('field Source must not be specified');
      tmpfsOptions(mount);
      return;
    case 'image':
      if (mount.source === '') throw wrong('field Source must not be empty');
      if (!isLocal(mount.imageSubpath)) throw wrong('subpath must be a relative path within the volume');
      return;
  }
}

const bindText = ({ source, target, mode }: MountRequest): string =>
  [source, target, mode ?? ''].filter((part) => part !== '').join(':');

function checkBind(mount: MountRequest, wrong: (why: string) => Error): void {
  const { propagation = '' } = mount;
  if (propagation !== '' && !PROPAGATIONS.includes(propagation))
    throw wrong(`invalid propagation mode: ${propagation}`);
  if (mount.readOnlyNonRecursive === true && mount.readOnlyForceRecursive === true) {
    throw wrong('mount options conflict: ReadOnlyNonRecursive && ReadOnlyForceRecursive');
  }
}

function checkSubpath(subpath: string | undefined, anonymous: boolean, wrong: (why: string) => Error): void {
  if (subpath === undefined || subpath === '') return;
  if (anonymous) throw wrong('must not set Subpath when using anonymous volumes');
  if (!isLocal(subpath)) throw wrong('subpath must be a relative path within the volume');
}

/** A path leads nowhere outside by its words. */
function isLocal(subpath = ''): boolean {
  const inside = posix.normalize(subpath);
  return !posix.isAbsolute(subpath) && inside !== '..' && !inside.startsWith('../');
}

/**
 * Makes sure that the source of a bind exists.
 * @param owner root of the container on the host, to whom directories belong that are made
 * @throws ShoalError InvalidArgument in Docker's words.
 */
export async function prepareBindSource(mount: MountRequest, owner: { uid: number; gid: number }): Promise<void> {
  try {
    await stat(mount.source);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    if (mount.createMountpoint !== true) {
      throw invalidArgument(`invalid mount config for type "bind": bind source path does not exist: ${mount.source}`);
    }
    const first = await mkdir(mount.source, { recursive: true, mode: 0o755 });
    if (owner.uid === 0 || first === undefined) return;
    for (let path = posix.normalize(mount.source); path.startsWith(first); path = posix.dirname(path)) {
      await chown(path, owner.uid, owner.gid);
    }
  }
}

/**
 * One mount of a user for the runtime.
 * @param source host path of a bind, volume or image.
 * @param recursive the runtime can make all mounts below one read-only.
 * @throws ShoalError FailedPrecondition when that was asked for and cannot be.
 */
export function userMount(mount: MountRequest, source: string, recursive: boolean): OciMount {
  if (mount.type === 'tmpfs') {
    return { destination: mount.target, type: 'tmpfs', source: 'tmpfs', options: tmpfsOptions(mount) };
  }
  const propagation = mount.propagation || 'rprivate';
  const bind = mount.nonRecursive === true ? 'bind' : 'rbind';
  return { destination: mount.target, type: 'bind', source, options: [bind, accessOf(mount, recursive), propagation] };
}

function accessOf(mount: MountRequest, recursive: boolean): string {
  if (!mount.readOnly) return 'rw';
  if (mount.readOnlyForceRecursive === true && !recursive) {
    const what = `bind at ${mount.target}: a recursive read-only mount needs Linux 5.12 and a runtime that knows rro`;
    throw failedPrecondition(`${what}; leave bind-recursive=readonly out`);
  }
  return recursive && mount.readOnlyNonRecursive !== true ? 'rro' : 'ro';
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

/** The mount that a host path lies on, and its optional fields (proc_pid_mountinfo(5)). */
function mountOf(path: string): { point: string; optional: string; flags: string[] } {
  const real = realpathSync(path);
  let found: ReturnType<typeof mountOf> = { point: '/', optional: '', flags: [] };
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const [front = ''] = line.split(' - ');
    const fields = front.split(' ');
    const point = (fields[4] ?? '').replaceAll('\\040', ' ');
    const holds = point === '/' || real === point || real.startsWith(`${point}/`);
    // A later mount at the same place hides the earlier.
    if (holds && point.length >= found.point.length) {
      found = { point, optional: fields.slice(6).join(' '), flags: (fields[5] ?? '').split(',') };
    }
  }
  return found;
}

/**
 * The propagation that a container's root needs for its mounts; undefined for none of its own.
 * @throws ShoalError InvalidArgument in Docker's words when a source's mount does not propagate.
 */
export function rootPropagation(mounts: readonly OciMount[]): string | undefined {
  let wanted: string | undefined;
  for (const { type, source = '', options = [] } of mounts) {
    if (type !== 'bind') continue;
    const shared = options.includes('shared') || options.includes('rshared');
    const slave = options.includes('slave') || options.includes('rslave');
    if (!shared && !slave) continue;
    const { point, optional } = mountOf(source);
    if (shared && !optional.includes('shared:')) {
      throw invalidArgument(`path ${source} is mounted on ${point} but it is not a shared mount`);
    }
    if (slave && !/shared:|master:/.test(optional)) {
      throw invalidArgument(`path ${source} is mounted on ${point} but it is not a shared or slave mount`);
    }
    wanted = shared ? 'shared' : (wanted ?? 'rslave');
  }
  return wanted;
}

/** Mounts for a container in a user namespace: a bind keeps the flags of its source's mount, or the kernel refuses it. */
export function withLockedFlags(mounts: readonly OciMount[]): OciMount[] {
  return mounts.map((mount) => {
    if (mount.type !== 'bind' || mount.source === undefined) return mount;
    const options = mount.options ?? [];
    const locked = mountOf(mount.source).flags.filter((flag) => LOCKED.includes(flag) && !options.includes(flag));
    // Read-only is one of two words for the same.
    const kept = locked.includes('ro') ? options.filter((option) => option !== 'rw') : options;
    return { ...mount, options: [...kept, ...locked] };
  });
}
