import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  closeFd,
  conflict,
  isShoalError,
  newHexId,
  notFound,
  openReadOnly,
  unavailable,
  type Random,
  type Spawner,
} from '../../base/index.ts';
import { holdImage } from '../containers/image-mounts.ts';
import { Limiter } from '../containers/limiter.ts';
import type { StoredMount } from '../containers/store.ts';
import type { ContainerUnit } from '../containers/unit.ts';
import { isAlive } from '../runtime/process.ts';
import type { Container, IdMapping, Images, Volumes } from '../types.ts';
import { bindSubpath, releaseSubpaths } from '../volumes/index.ts';
import type { Roots } from './roots.ts';
import { openSession, type Session } from './session.ts';
import type { ChangesJob, Task, View, ViewMount } from './words.ts';

/** Helper processes at once; each takes about 50 MB. Others wait in order. */
const JOBS_MAX = 12;
/** Names of the bindings of parts of volumes begin so. */
const PART = 'part-';

/** Places that Docker keeps out of a container's own files: they are made for the runtime (moby daemon/initlayer). */
export const RUNTIME_PLACES = [
  ...['/dev', '/dev/pts', '/dev/shm', '/dev/mqueue', '/dev/console', '/proc', '/sys', '/sys/fs', '/sys/fs/cgroup'],
  ...['/etc', '/etc/hostname', '/etc/hosts', '/etc/resolv.conf', '/etc/mtab', '/.dockerenv'],
  ...['/sbin/docker-init'],
];
/** Generated files: name beside the container's record, and place in the container. */
const GENERATED = { hostname: '/etc/hostname', hosts: '/etc/hosts', 'resolv.conf': '/etc/resolv.conf' };

export interface FilesOptions {
  /** Holds `tmp`, for what is too large for memory. */
  dataRoot: string;
  /** State of this boot only. */
  execRoot: string;
  spawner: Spawner;
  random: Random;
  images: Images;
  volumes: Volumes;
  roots: Roots;
  /** The built file helper; default: beside the daemon's program. */
  fileHelper?: string | undefined;
  /** @throws ShoalError NotFound */
  unit: (reference: string) => ContainerUnit;
}

/** Something taken for the length of a job. */
export interface Held<T> {
  value: T;
  release: () => Promise<void>;
}

/** Begins jobs of the file helper: what they see, how many there are at once, and what is held for them. */
export class Jobs {
  /** Sockets and spare files; nobody but root may enter. */
  readonly directory: string;
  readonly #options: FilesOptions;
  readonly #scratch: string;
  readonly #running = new Limiter(JOBS_MAX);

  constructor(options: FilesOptions) {
    this.#options = options;
    this.directory = join(options.execRoot, 'copy');
    this.#scratch = join(this.directory, 'view');
    this.#clear();
  }

  /** Takes away what a daemon before left when it was killed. */
  #clear(): void {
    if (!existsSync(this.directory)) return;
    for (const name of readdirSync(this.directory)) {
      const path = join(this.directory, name);
      if (name.startsWith(PART)) releaseSubpaths(path);
      if (path !== this.#scratch) rmSync(path, { recursive: true, force: true });
    }
  }

  /** A path for a large file of a job, which takes it away. */
  spareFile(): string {
    const directory = join(this.#options.dataRoot, 'tmp');
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    return join(directory, `upload-${newHexId(this.#options.random).slice(0, 16)}`);
  }

  tree(root: string, mounts: ViewMount[], readOnly = true): View {
    return { kind: 'tree', scratch: this.#scratch, root, readOnly, mounts };
  }

  only(mounts: ViewMount[]): View {
    return this.tree('', mounts);
  }

  /** Mounts the root of a container for a job. @throws ShoalError Conflict while it is being removed */
  async hold(unit: ContainerUnit): Promise<Held<string>> {
    return await unit.lock.run(async () => {
      const { id, imageId, state, config } = unit.container;
      if (unit.removed) throw notFound(`No such container: ${id}`);
      if (state === 'removing' || state === 'dead')
        throw conflict('container is marked for removal and cannot be used');
      const { path, release } = await this.#options.roots.hold(id, imageId, unit.running, config.idMapping);
      return { value: path, release };
    });
  }

  async compare<T>(
    unit: ContainerUnit,
    kind: 'changes' | 'layer' | 'changes-size',
    signal: AbortSignal | undefined,
    use: (session: Session) => Promise<T>,
  ): Promise<T> {
    const held = await this.hold(unit);
    try {
      const { id, config } = unit.container;
      const parts = this.#options.images.rootParts(id);
      const { idMapping: ids } = config;
      const shown = (source: string, target: string): ViewMount => ({ source, target, readOnly: true });
      // The root shows them with the owners that they have for the container: only so can they be compared.
      const shifted = ids === undefined ? {} : { shiftedBy: await this.#options.roots.namespacePath(ids) };
      const view = this.only([
        shown(held.value, '/merged'),
        ...(parts.upper === '' ? [] : [shown(parts.upper, '/upper')]),
        ...parts.layers.map(({ path }, i) => ({ ...shown(path, `/layers/${i}`), ...shifted })),
      ]);
      const job: ChangesJob = {
        merged: '/merged',
        upper: parts.upper === '' ? '' : '/upper',
        layers: parts.layers.map(({ removed, opaque }, i) => ({ path: `/layers/${i}`, removed, opaque })),
        ignored: [...RUNTIME_PLACES, ...config.files.map(({ target }) => target)],
      };
      const session = await this.session(view, { kind, ...job }, signal, ids);
      try {
        return await use(session.value);
      } finally {
        await session.release();
      }
    } catch (error) {
      throw orGone(unit, error);
    } finally {
      await held.release();
    }
  }

  async with<T>(
    unit: ContainerUnit,
    task: Task,
    signal: AbortSignal | undefined,
    use: (session: Session) => Promise<T>,
  ): Promise<T> {
    const { value, release } = await this.begin(unit, task, signal);
    try {
      return await use(value);
    } catch (error) {
      throw orGone(unit, error);
    } finally {
      value.socket.destroy();
      await release();
    }
  }

  /** Begins a job that sees what the container sees. */
  async begin(unit: ContainerUnit, task: Task, signal: AbortSignal | undefined): Promise<Held<Session>> {
    const held = await this.hold(unit);
    const releases = [held.release];
    const release = async (): Promise<void> => {
      for (const one of releases.splice(0).reverse()) await one();
    };
    try {
      const view = await this.#viewOf(unit, held.value, task, releases);
      const session = await this.session(view, task, signal, unit.container.config.idMapping);
      releases.push(session.release);
      return { value: session.value, release };
    } catch (error) {
      await release();
      throw orGone(unit, error);
    }
  }

  /** A running container's own mounts, or the root of a stopped one with its volumes at their places. */
  async #viewOf(unit: ContainerUnit, root: string, task: Task, releases: (() => Promise<void>)[]): Promise<View> {
    const init = unit.record.stored.monitored?.init;
    if (unit.running && isAlive(init) && init !== undefined) {
      // Held open: the namespace is this container's, also when its process number is taken by another one.
      const fd = orNone(() => openReadOnly(`/proc/${init.pid}/ns/mnt`));
      if (fd !== undefined) {
        releases.push(() => Promise.resolve(closeFd(fd)));
        if (isAlive(init)) return { kind: 'namespace', path: `/proc/${process.pid}/fd/${fd}` };
      }
      throw unavailable(`container ${unit.container.id} ends just now; try again`);
    }
    const { id, config } = unit.container;
    const mounts: ViewMount[] = [];
    for (const [name, target] of Object.entries(GENERATED)) {
      const source = join(unit.record.parts.store.directory(id), name);
      if (existsSync(source)) mounts.push({ source, target, readOnly: false });
    }
    for (const mount of unit.record.stored.mounts) {
      const source = await this.#sourceOf(mount, unit.container, releases);
      if (source !== undefined) mounts.push({ source, target: mount.target, readOnly: mount.readOnly });
    }
    const byDepth = (a: ViewMount, b: ViewMount): number => a.target.split('/').length - b.target.split('/').length;
    return this.tree(root, mounts.sort(byDepth), task.kind === 'write' && config.readOnlyRootfs);
  }

  async #sourceOf(
    mount: StoredMount,
    { id, config }: Container,
    releases: (() => Promise<void>)[],
  ): Promise<string | undefined> {
    switch (mount.type) {
      case 'bind':
        return existsSync(mount.source) ? mount.source : undefined;
      case 'tmpfs':
        return undefined;
      case 'image': {
        const held = await holdImage(this.#options.roots, id, mount, config.idMapping);
        releases.push(held.release);
        return this.#partOf(held.path, mount.imageSubpath, releases);
      }
      case 'volume': {
        const user = `${id}-files`;
        const source = await this.#options.volumes.acquire(mount.source, user);
        releases.push(() => this.#options.volumes.release(mount.source, user));
        return this.#partOf(source, mount.volumeSubpath, releases);
      }
    }
  }

  #partOf(source: string, subpath: string | undefined, releases: (() => Promise<void>)[]): string {
    if (!subpath) return source;
    const place = join(this.directory, `${PART}${newHexId(this.#options.random).slice(0, 16)}`);
    // After the volume in this list, so before it when all is let go: a part keeps its volume mounted.
    releases.push(() => Promise.resolve(releaseSubpaths(place)));
    return bindSubpath(source, subpath, place, 0);
  }

  /** Begins a job when there is a place for one; the place is free again after `release`. */
  async session(view: View, task: Task, signal: AbortSignal | undefined, ids?: IdMapping): Promise<Held<Session>> {
    mkdirSync(this.#scratch, { recursive: true, mode: 0o700 });
    const { spawner, random, fileHelper: helper } = this.#options;
    return await new Promise<Held<Session>>((resolve, reject) => {
      void this.#running.run(async () => {
        try {
          const value = await openSession({
            spawner,
            random,
            helper,
            directory: this.directory,
            view,
            task,
            signal,
            ids,
          });
          await new Promise<void>((done) => {
            const release = async (): Promise<void> => {
              value.socket.destroy();
              // The view must be gone before what it shows is taken down.
              await value.finished.catch(() => undefined);
              done();
            };
            resolve({ value, release });
          });
        } catch (error) {
          reject(error);
        }
      });
    });
  }
}

/** What goes wrong with the files of a container that is being removed has that reason. */
export function orGone(unit: ContainerUnit, error: unknown): unknown {
  const { id, state } = unit.container;
  return unit.removed || unit.removing || state === 'removing' ? notFound(`No such container: ${id}`) : error;
}

/** The value, or undefined when it cannot be had. */
export function orNone<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch (error) {
    if (isShoalError(error)) return undefined;
    throw error;
  }
}
