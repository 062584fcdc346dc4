import { existsSync, readFileSync, statSync } from 'node:fs';
import { posix } from 'node:path';
import { failedPrecondition, invalidArgument } from '../../base/index.ts';
import type { CgroupLayout } from './cgroup-layout.ts';

/** Who makes the control groups of containers: the OCI runtime itself, or systemd when the runtime asks it to. */
export type CgroupDriver = 'cgroupfs' | 'systemd';

/** Where the control groups of an engine's containers stand. */
export interface GroupPlace {
  driver: CgroupDriver;
  /** Of containers that name none: a path with a leading slash, or with systemd a slice's name. */
  parent: string;
}

/** One container's control group. */
export interface ContainerGroup {
  /** Below every tree, with a leading slash. */
  path: string;
  /** `cgroupsPath` of the runtime's configuration: the path, or with systemd `slice:prefix:name` (runc's form). */
  runtimePath: string;
}

export const DEFAULT_PARENTS: Readonly<Record<CgroupDriver, string>> = { cgroupfs: '/shoal', systemd: 'shoal.slice' };
/** What the names of systemd's units of containers begin with: `shoal-<id>.scope`. */
const SCOPE_PREFIX = 'shoal';
const SCOPE = '.scope';
const SLICE = '.slice';
/** Names of groups that are containers', in either form. */
const GROUP_NAME = new RegExp(`^(?:([0-9a-f]{64})|${SCOPE_PREFIX}-([0-9a-f]{64})\\${SCOPE})$`);

/** Told by systemd to all who ask whether it is the init of this host (sd_booted(3)). */
const SYSTEMD_MARK = '/run/systemd/system';
/** The system's message bus: OCI runtimes ask systemd there (D-Bus Specification, well-known message bus instances). */
export const SYSTEM_BUS = '/run/dbus/system_bus_socket';

/** Whether a control group is a unit of systemd. */
export const isScope = (path: string): boolean => path.endsWith(SCOPE);

/** Whether a container's control group is made by systemd; one without a record is of cgroupfs. */
export const inScope = ({ cgroupPath = '' }: { cgroupPath?: string }): boolean => isScope(cgroupPath);

/** Whether a text may name a slice, by Docker's rule. */
const looksLikeSlice = (name: string): boolean => name.length > SLICE.length && name.endsWith(SLICE);

/** @throws ShoalError InvalidArgument in Docker's words */
function notSlice(): Error {
  return invalidArgument('cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"');
}

/**
 * Path of a slice below every tree: each dash in its name is a level (systemd.slice(5)), so `a-b.slice` stands at
 * `/a.slice/a-b.slice`; `-.slice` is the root.
 * @throws ShoalError InvalidArgument in Docker's words for what names none
 */
export function slicePath(name: string): string {
  if (name === `-${SLICE}`) return '/';
  const words = name.slice(0, -SLICE.length).split('-');
  if (!looksLikeSlice(name) || name.includes('/') || words.includes('')) throw notSlice();
  return words.map((_, index) => `/${words.slice(0, index + 1).join('-')}${SLICE}`).join('');
}

/** Checks a container's `--cgroup-parent`. @throws ShoalError InvalidArgument in Docker's words */
export function checkCgroupParent({ driver }: GroupPlace, own: string | undefined): void {
  if (driver === 'systemd' && own) slicePath(own);
}

/** Path of the group below which containers stand that name none. */
export function parentPath({ driver, parent }: GroupPlace): string {
  return driver === 'systemd' ? slicePath(parent) : posix.join('/', parent);
}

/**
 * The group that a container gets when it is started.
 * @param own its `--cgroup-parent`; empty or undefined: the engine's
 * @throws ShoalError InvalidArgument in Docker's words for a parent that is no slice, with systemd
 */
export function groupFor({ driver, parent }: GroupPlace, own: string | undefined, id: string): ContainerGroup {
  if (driver === 'systemd') {
    const slice = own || parent;
    const path = posix.join(slicePath(slice), `${SCOPE_PREFIX}-${id}${SCOPE}`);
    return { path, runtimePath: `${slice}:${SCOPE_PREFIX}:${id}` };
  }
  // Cleaned, so that it stays below the root of the tree.
  const path = posix.join('/', own || parent, id);
  return { path, runtimePath: path };
}

/** What is recorded of a container's group. */
export interface RecordedGroup {
  id: string;
  /** Since its last start. */
  cgroupPath?: string | undefined;
  /** Its own `--cgroup-parent`. */
  cgroupParent?: string | undefined;
}

/**
 * The group in which a container's processes are. The driver may have changed since its start: what was recorded then
 * counts. A record that has nothing is of a daemon that had no other driver than cgroupfs.
 */
export function recordedGroup(place: GroupPlace, { id, cgroupPath, cgroupParent }: RecordedGroup): string {
  const usual = place.driver === 'cgroupfs' ? place.parent : DEFAULT_PARENTS.cgroupfs;
  return cgroupPath ?? posix.join('/', cgroupParent || usual, id);
}

/** The container whose group has this name; undefined for another's. */
export function groupOwner(name: string): string | undefined {
  const [, plain, scope] = GROUP_NAME.exec(name) ?? [];
  return plain ?? scope;
}

/** What this host has of systemd. */
export interface SystemdFacts {
  /** It is the init of this host. */
  running: boolean;
  /** The system's bus, by which it is asked, is there. */
  bus: boolean;
}

/** Looks at this host. */
export function systemdFacts(): SystemdFacts {
  const isDirectory = statSync(SYSTEMD_MARK, { throwIfNoEntry: false })?.isDirectory() === true;
  return { running: isDirectory, bus: existsSync(SYSTEM_BUS) };
}

export interface DriverRequest {
  /** Undefined: by this host. */
  driver?: CgroupDriver | undefined;
  /** Undefined or empty: the driver's own. */
  parent?: string | undefined;
}

/**
 * The driver and the place of containers. When none is named it is, as dockerd's, systemd where cgroup v2 stands alone
 * and systemd is the init, else cgroupfs; and cgroupfs too when the parent that was named is a path and no slice.
 * @throws ShoalError FailedPrecondition when systemd was named and is not there; InvalidArgument for a bad parent
 */
export function chooseGroups(
  { driver, parent = '' }: DriverRequest,
  version: CgroupLayout['version'],
  systemd: SystemdFacts,
): GroupPlace {
  const named = parent === '' ? undefined : parent;
  const usual = version === 'v2' && systemd.running && systemd.bus && (named === undefined || looksLikeSlice(named));
  if ((driver ?? (usual ? 'systemd' : 'cgroupfs')) === 'cgroupfs') {
    return { driver: 'cgroupfs', parent: posix.join('/', (named ?? DEFAULT_PARENTS.cgroupfs).replace(/\/+$/, '')) };
  }
  requireSystemd(systemd);
  const slice = named ?? DEFAULT_PARENTS.systemd;
  slicePath(slice);
  return { driver: 'systemd', parent: slice };
}

function requireSystemd({ running, bus }: SystemdFacts): void {
  const way = 'leave native.cgroupdriver=systemd out, or say native.cgroupdriver=cgroupfs';
  if (!running) throw failedPrecondition(`systemd is not the init of this host (there is no ${SYSTEMD_MARK}): ${way}`);
  if (!bus) throw failedPrecondition(`systemd cannot be asked, there is no ${SYSTEM_BUS}: install dbus; or ${way}`);
}

/** Whether this process is in a group or below it, in any tree, by a /proc/self/cgroup text (cgroups(7)). */
export function isInside(path: string, text = readFileSync('/proc/self/cgroup', 'utf8')): boolean {
  const own = text.split('\n').map((line) => line.split(':').slice(2).join(':'));
  return path === '/' || own.some((group) => group === path || group.startsWith(`${path}/`));
}
