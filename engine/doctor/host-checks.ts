import { existsSync, rmSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { basename, dirname, join, posix } from 'node:path';
import { groupFor, groupOwner, parentPath, recordedGroup, type GroupPlace } from '../runtime/cgroup-driver.ts';
import type { Cgroups } from '../runtime/cgroups.ts';
import { isAlive, type ProcessIdentity } from '../runtime/process.ts';
import { mountPoints, SHIFTED, unmountEvery } from '../storage/index.ts';
import type { Fault, Found } from './fault.ts';
import { hostProcesses, namesIn, type ConmonProcess, type HostProcesses } from './host-facts.ts';

/** What is recorded of a container. */
export interface KnownContainer {
  id: string;
  name: string;
  /** It has, by its record, processes and all that they need. */
  running: boolean;
  /** It is being started, ended or removed just now (or waits for its next start): what it has is not judged. */
  busy: boolean;
  conmon?: ProcessIdentity | undefined;
  init?: ProcessIdentity | undefined;
  /** Its control group since its last start. */
  cgroupPath?: string | undefined;
  /** Parent of its control group, when it has one of its own. */
  cgroupParent?: string | undefined;
  /** Names of its volumes. */
  volumes: readonly string[];
}

/** All that host checks need to know. */
export interface HostView {
  dataRoot: string;
  execRoot: string;
  /** Where the control groups of containers stand; the first is that of new ones. */
  groups: readonly [GroupPlace, ...GroupPlace[]];
  cgroups: Cgroups;
  containers: ReadonlyMap<string, KnownContainer>;
  /** Ids (directory names) whose record cannot be read: nothing of theirs is judged. */
  unreadable: ReadonlySet<string>;
  /** Does something with nothing else under way for this container, unless it runs by then. */
  alone: (id: string, work: () => Promise<void> | void) => Promise<void>;
  /** Takes down a sandbox; absent when no daemon runs: then its files are removed. */
  removeSandbox?: ((id: string) => Promise<void>) | undefined;
  /** Looks again after a container whose record says that it runs. */
  recheck?: ((id: string) => Promise<void>) | undefined;
}

const CONTAINER_ID = /^[0-9a-f]{64}$/;
/** The root of a container, or of an image that it mounts. */
const ROOT_NAME = /^([0-9a-f]{64})(?:-[0-9a-f]{12})?$/;
/** Names below `netns` and `attach` are cut to these lengths (overlay-net, conmon.ts). */
const NAMESPACE_DIGITS = 12;
const SOCKET_DIGITS = 32;
const SIGKILL_ROUND_MS = 10;
const SIGKILL_ROUNDS_MAX = 200;

/** Whether a monitor's bundle is of this daemon: that of a container, or of a command run in one. */
const isOurs = (view: HostView, bundle: string): boolean =>
  ['bundles', 'execs'].some((directory) => dirname(bundle) === join(view.execRoot, directory));

/** The control group of a container. */
function groupOf({ groups: [place], containers }: HostView, id: string): string {
  const known = containers.get(id);
  return known === undefined ? groupFor(place, undefined, id).path : recordedGroup(place, known);
}

const short = (id: string): string => id.slice(0, 12);

/** Whether what stands on the host for an id is nobody's. Names of things may hold only its first digits. */
class Owners {
  readonly #view: HostView;
  readonly #ids = new Map<string, string>();

  constructor(view: HostView) {
    this.#view = view;
    for (const id of [...view.containers.keys(), ...view.unreadable]) {
      for (const digits of [NAMESPACE_DIGITS, SOCKET_DIGITS]) this.#ids.set(id.slice(0, digits), id);
    }
  }

  full(name: string): string {
    return this.#ids.get(name) ?? name;
  }

  /** Why nothing may stand for this id; undefined when it may. */
  orphan(name: string): string | undefined {
    const id = this.full(name);
    if (this.#view.unreadable.has(id)) return undefined;
    const container = this.#view.containers.get(id);
    if (container === undefined) return 'there is no such container';
    return container.busy || container.running ? undefined : `container ${container.name} does not run`;
  }

  /** A repair for what stands for this id. */
  repair(name: string, work: () => Promise<void> | void): () => Promise<void> {
    return () => this.#view.alone(this.full(name), work);
  }
}

async function kill(pid: number): Promise<void> {
  for (let round = 0; round < SIGKILL_ROUNDS_MAX; round++) {
    try {
      process.kill(pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ESRCH') return;
      throw error;
    }
    await new Promise((resolve) => setTimeout(resolve, SIGKILL_ROUND_MS));
  }
  throw new Error(`process ${pid} does not end`);
}

/** Monitors that watch no running container of ours, and runtimes at work on none. */
function checkProcesses(view: HostView, { monitors, runtimes }: HostProcesses, owners: Owners, found: Found): void {
  for (const { pid, containerId, bundle, exec } of monitors) {
    if (!isOurs(view, bundle) || view.unreadable.has(containerId)) continue;
    const container = view.containers.get(containerId);
    if (container?.busy === true) continue;
    const own = exec || container?.conmon === undefined || container.conmon.pid === pid;
    if (container?.running === true && own) continue;
    const whose = container === undefined ? 'a container that is not recorded' : `container ${container.name}`;
    const state = container?.running === true ? ', which has another monitor' : container ? ', which does not run' : '';
    found({
      kind: 'process-orphan',
      subject: `conmon ${pid}`,
      problem: `process ${pid} is a monitor (conmon) of ${whose} (${short(containerId)})${state}`,
      remedy: 'it is killed, with the processes of its container',
      repair:
        container?.running === true
          ? () => kill(pid)
          : owners.repair(containerId, async () => {
              await kill(pid);
              await view.cgroups.destroy(groupOf(view, containerId));
            }),
    });
  }
  for (const { pid, stateRoot, containerId } of runtimes) {
    if (stateRoot !== join(view.execRoot, 'runtime') || containerId === '') continue;
    const why = owners.orphan(containerId);
    if (why === undefined) continue;
    found({
      kind: 'process-orphan',
      subject: `runtime ${pid}`,
      problem: `process ${pid} is a runtime at work on ${short(containerId)}, but ${why}`,
      remedy: 'it is killed',
      repair: owners.repair(containerId, () => kill(pid)),
    });
  }
}

/** Containers whose record speaks of processes that are gone. */
function checkLost(view: HostView, found: Found): void {
  for (const container of view.containers.values()) {
    if (!container.running || container.busy || container.init === undefined) continue;
    if (isAlive(container.init) || isAlive(container.conmon)) continue;
    // Its exit code waits for the daemon.
    if (view.recheck === undefined && existsSync(join(view.execRoot, 'exits', container.id))) continue;
    const recheck = view.recheck;
    found({
      kind: 'container-lost',
      subject: container.id,
      problem: `container ${container.name} is recorded as running, but its process ${container.init.pid} is gone`,
      remedy: recheck === undefined ? 'the daemon records its end when it starts' : 'its end is recorded',
      ...(recheck === undefined ? {} : { repair: () => recheck(container.id) }),
    });
  }
}

function checkCgroups(view: HostView, monitors: readonly ConmonProcess[], owners: Owners, found: Found): void {
  // Another daemon may use the same parent: its containers have monitors with other bundles.
  const foreign = new Set(monitors.filter(({ bundle }) => !isOurs(view, bundle)).map((m) => m.containerId));
  const own = [...view.containers.values()].map(({ id }) => dirname(groupOf(view, id)));
  const parents = new Set([...view.groups.map(parentPath), ...own]);
  const groups = [...parents].flatMap((parent) => view.cgroups.children(parent).map((name) => ({ parent, name })));
  for (const { parent, name } of groups) {
    const id = groupOwner(name);
    if (id === undefined || foreign.has(id)) continue;
    const why = owners.orphan(id);
    if (why === undefined) continue;
    const path = posix.join(parent, name);
    found({
      kind: 'cgroup-orphan',
      subject: path,
      problem: `the control group ${parent}/${short(id)}… stands, but ${why}`,
      remedy: 'the processes in it are killed and it is removed',
      repair: owners.repair(id, () => view.cgroups.destroy(path)),
    });
  }
}

/** Mounts of container roots and volumes that nobody uses. */
function checkMounts(view: HostView, owners: Owners, found: Found): number {
  const roots = join(view.dataRoot, 'overlay2');
  const volumes = join(view.dataRoot, 'volumes');
  const used = new Set<string>();
  for (const c of view.containers.values()) if (c.running || c.busy) for (const name of c.volumes) used.add(name);
  let looked = 0;
  for (const point of new Set(mountPoints())) {
    const root = point.startsWith(`${roots}/`) ? point.slice(roots.length + 1).split('/') : [];
    const owner = ROOT_NAME.exec(root[0] ?? '')?.[1];
    const volume = point.startsWith(`${volumes}/`) ? point.slice(volumes.length + 1).split('/') : [];
    if (root.length === 0 && volume.length === 0) continue;
    looked++;
    const why =
      ['merged', SHIFTED].includes(root[1] ?? '') && root.length === 2 && owner !== undefined
        ? owners.orphan(owner)
        : volume[1] === '_data' && volume.length === 2 && view.unreadable.size === 0 && !used.has(volume[0] ?? '')
          ? `no running container uses the volume ${volume[0]}`
          : undefined;
    if (why === undefined) continue;
    found({
      kind: 'mount-orphan',
      subject: point,
      problem: `${point} is mounted, but ${why}`,
      remedy: 'it is unmounted',
      repair: owners.repair(owner ?? '', () => unmountEvery(point)),
    });
  }
  return looked;
}

/** What the runtime and conmon keep of containers that do not run. */
function checkRuntimeState(view: HostView, owners: Owners, found: Found): void {
  const places: readonly [string, string, RegExp][] = [
    ['runtime', "the runtime's state", CONTAINER_ID],
    ['bundles', 'a bundle', CONTAINER_ID],
    ['exits', 'an exit file', CONTAINER_ID],
    ['attach', 'an attach socket', /^[0-9a-f]{32}$/],
  ];
  for (const [directory, what, pattern] of places) {
    for (const name of namesIn(join(view.execRoot, directory))) {
      const why = pattern.test(name) ? owners.orphan(name) : undefined;
      if (why === undefined) continue;
      const path = join(view.execRoot, directory, name);
      found({
        kind: 'runtime-orphan',
        subject: path,
        problem: `${what} of ${short(name)} is left over, but ${why}`,
        remedy: 'it is removed',
        repair: owners.repair(name, () => rm(path, { recursive: true, force: true })),
      });
    }
  }
}

function checkNetworks(view: HostView, owners: Owners, found: Found): void {
  const sandboxes = join(view.execRoot, 'sandboxes');
  const judged = new Set<string>();
  for (const name of namesIn(sandboxes)) {
    const id = /^([0-9a-f]{64})\.json$/.exec(name)?.[1];
    const why = id === undefined ? undefined : owners.orphan(id);
    if (id === undefined || why === undefined) continue;
    judged.add(id.slice(0, NAMESPACE_DIGITS));
    found({
      kind: 'sandbox-orphan',
      subject: id,
      problem: `a network sandbox of ${short(id)} stands, but ${why}`,
      remedy: 'it is removed, with its namespace and links',
      repair: owners.repair(id, async () => {
        if (view.removeSandbox !== undefined) await view.removeSandbox(id);
        dropNamespace(join(view.execRoot, 'netns', id.slice(0, NAMESPACE_DIGITS)));
        rmSync(join(sandboxes, name), { force: true });
      }),
    });
  }
  for (const name of namesIn(join(view.execRoot, 'netns'))) {
    const why = /^[0-9a-f]{12}$/.test(name) && !judged.has(name) ? owners.orphan(name) : undefined;
    if (why === undefined) continue;
    const path = join(view.execRoot, 'netns', name);
    found({
      kind: 'namespace-orphan',
      subject: path,
      problem: `a network namespace of ${name} stands, but ${why}`,
      remedy: 'it is removed',
      repair: owners.repair(name, () => dropNamespace(path)),
    });
  }
}

/** The kernel ends a namespace's links by itself. */
function dropNamespace(path: string): void {
  unmountEvery(path);
  rmSync(path, { force: true });
}

/** Directories of containers that have no record, and records that cannot be read. */
function checkDirectories(view: HostView, found: Found): void {
  const root = join(view.dataRoot, 'containers');
  for (const name of namesIn(root)) {
    const path = join(root, name);
    if (view.unreadable.has(name)) {
      found({
        kind: 'container-unreadable',
        subject: path,
        problem: `the record of container ${short(name)} cannot be read: it is not listed, and nothing of it is touched`,
        remedy: `put ${basename(path)}/container.json right, or remove the directory, and restart the daemon`,
      });
      continue;
    }
    const id = name.split('.')[0] ?? '';
    if (view.containers.has(id) || !CONTAINER_ID.test(id)) continue;
    found({
      kind: 'container-orphan',
      subject: path,
      problem: `the directory of container ${short(id)} has no record: its creation or removal was cut off`,
      remedy: 'it is removed',
      repair: () => rm(path, { recursive: true, force: true }),
    });
  }
}

/**
 * Ends the processes that an earlier daemon left in the middle of a start: they would go on making what nobody knows of.
 * Before anything else is taken down.
 */
export async function endStrayProcesses(view: HostView): Promise<void> {
  const faults: Fault[] = [];
  checkProcesses(view, hostProcesses(), new Owners(view), (fault) => void faults.push(fault));
  for (const fault of faults) if (fault.kind === 'process-orphan') await fault.repair?.();
}

/** Everything on this host that stands for containers, against what is recorded of them. */
export function checkHost(view: HostView, found: Found): Record<string, number> {
  const processes = hostProcesses();
  const { monitors } = processes;
  const owners = new Owners(view);
  checkProcesses(view, processes, owners, found);
  checkLost(view, found);
  checkCgroups(view, monitors, owners, found);
  const mounts = checkMounts(view, owners, found);
  checkRuntimeState(view, owners, found);
  checkNetworks(view, owners, found);
  checkDirectories(view, found);
  return {
    containers: view.containers.size,
    mounts,
    monitors: monitors.filter(({ bundle }) => isOurs(view, bundle)).length,
  };
}
