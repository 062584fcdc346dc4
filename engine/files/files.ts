import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import {
  closeFd,
  conflict,
  invalidArgument,
  isShoalError,
  newHexId,
  notFound,
  openReadOnly,
  unavailable,
  type Clock,
  type Random,
  type Spawner,
} from '../../base/index.ts';
import { Limiter } from '../containers/limiter.ts';
import type { ContainerUnit } from '../containers/unit.ts';
import { isAlive } from '../runtime/process.ts';
import type { Image, Images, MountRequest, Volumes } from '../types.ts';
import { commitContainer, type CommitOptions } from './commit.ts';
import { graphData, imageGraphData } from './graph.ts';
import type { Roots } from './roots.ts';
import { answerStream, firstLine, openSession, wholeAnswer, type Session } from './session.ts';
import { sendArchive } from './upload.ts';
import type { ChangesJob, FileChange, PathStat, Task, View, ViewMount } from './words.ts';

/** Helper processes at once; each takes about 50 MB. Others wait in order. */
const JOBS_MAX = 12;
/** Longest list of changes that is given, bytes. */
const CHANGES_MAX_BYTES = 256 * 1024 * 1024;
/** Containers measured by one process. */
const SIZES_PER_JOB = 200;
const SIZES_MAX_BYTES = 1024 * 1024;

/** Places that Docker keeps out of a container's own files: they are made for the runtime (moby daemon/initlayer). */
const RUNTIME_PLACES = [
  ...['/dev', '/dev/pts', '/dev/shm', '/dev/mqueue', '/dev/console', '/proc', '/sys', '/sys/fs', '/sys/fs/cgroup'],
  ...['/etc', '/etc/hostname', '/etc/hosts', '/etc/resolv.conf', '/etc/mtab', '/.dockerenv'],
  ...['/sbin/docker-init'],
];
/** Generated files: name beside the container's record, and place in the container. */
const GENERATED = { hostname: '/etc/hostname', hosts: '/etc/hosts', 'resolv.conf': '/etc/resolv.conf' };

export interface FilesOptions {
  /** State of this boot only. */
  execRoot: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  images: Images;
  volumes: Volumes;
  roots: Roots;
  /** The built file helper; default: beside the daemon's program. */
  fileHelper?: string | undefined;
  /** @throws ShoalError NotFound */
  unit: (reference: string) => ContainerUnit;
}

export interface WriteOptions {
  noOverwriteDirNonDir: boolean;
  /** What is written belongs to the container's user; else to whom the archive says. */
  copyUidGid: boolean;
}

/** Bytes that a container's files take. */
export interface ContainerSizes {
  /** Written by the container itself. */
  rw: number;
  /** With the image below. */
  rootFs: number;
}

/** Something taken for the length of a job. */
interface Held<T> {
  value: T;
  release: () => Promise<void>;
}

/**
 * The file systems of containers: copies both ways, differences, archives, sizes. Every job runs in a process of its
 * own that is confined to what the container sees, so a container cannot lead it to files of the host, whatever it
 * changes meanwhile. Nothing is held in memory but what is on its way.
 */
export class ContainerFiles {
  readonly #options: FilesOptions;
  readonly #directory: string;
  readonly #scratch: string;
  readonly #jobs = new Limiter(JOBS_MAX);

  constructor(options: FilesOptions) {
    this.#options = options;
    this.#directory = join(options.execRoot, 'copy');
    this.#scratch = join(this.#directory, 'view');
  }

  /** @throws ShoalError NotFound "Could not find the file …" */
  async stat(reference: string, path: string, signal?: AbortSignal): Promise<PathStat> {
    const unit = this.#options.unit(reference);
    return await this.#with(unit, { kind: 'stat', path }, signal, async (session) => {
      const line = await inWords(reference, path, firstLine(session));
      await session.finished;
      return JSON.parse(line) as PathStat;
    });
  }

  /** An archive of what a path names, under its own last name. @throws ShoalError NotFound */
  async read(
    reference: string,
    path: string,
    signal?: AbortSignal,
  ): Promise<{ stat: PathStat; archive: AsyncIterable<Uint8Array> }> {
    const unit = this.#options.unit(reference);
    const { value: session, release } = await this.#begin(unit, { kind: 'read', path }, signal);
    try {
      const stat = JSON.parse(await inWords(reference, path, firstLine(session))) as PathStat;
      unit.record.event('archive-path');
      return { stat, archive: answerStream(session, release) };
    } catch (error) {
      session.socket.destroy();
      await release();
      throw error;
    }
  }

  /**
   * Unpacks an archive (plain, gzip, bzip2, xz or zstd) into a directory of the container.
   * @throws ShoalError NotFound, InvalidArgument in Docker's words
   */
  async write(
    reference: string,
    path: string,
    archive: Readable,
    options: WriteOptions,
    signal?: AbortSignal,
  ): Promise<void> {
    const unit = this.#options.unit(reference);
    const { config } = unit.container;
    const owner = options.copyUidGid ? config.user || unit.record.imageConfig().User || '' : '';
    const task: Task = {
      ...{ kind: 'write', path, owner, noOverwriteDirNonDir: options.noOverwriteDirNonDir },
      readOnlyRoot: config.readOnlyRootfs,
      mounts: unit.record.stored.mounts.map(({ target, readOnly }) => ({ target, readOnly })),
    };
    await this.#with(unit, task, signal, async (session) => {
      const spare = join(this.#directory, `${newHexId(this.#options.random).slice(0, 16)}.upload`);
      try {
        await sendArchive(this.#options.spawner, archive, session.socket, spare);
      } finally {
        session.socket.resume();
      }
      await inWords(reference, path, session.finished);
    });
    unit.record.event('extract-to-dir');
  }

  /** What differs from the image, a directory before what is in it. */
  async changes(reference: string, signal?: AbortSignal): Promise<FileChange[]> {
    const unit = this.#options.unit(reference);
    return await this.#compare(unit, 'changes', signal, async (session) => {
      const text = (await wholeAnswer(session, CHANGES_MAX_BYTES)).toString('utf8');
      const lines = text.split('\n').filter((line) => line !== '');
      return lines.flatMap((line) => JSON.parse(line) as FileChange[]);
    });
  }

  /** Makes an image of a container's changes. @throws ShoalError NotFound, InvalidArgument */
  async commit(reference: string, options: CommitOptions): Promise<Image> {
    return await commitContainer(this, this.#options.images, this.#options.unit(reference), options);
  }

  /** The directories that a storage driver shows of a container; undefined before its first start. */
  graph(reference: string): Readonly<Record<string, string>> | undefined {
    const { id } = this.#options.unit(reference).container;
    return graphData(orNone(() => this.#options.images.rootParts(id)));
  }

  /** The same of an image. @throws ShoalError NotFound */
  imageGraph(imageId: string): Readonly<Record<string, string>> | undefined {
    const { images } = this.#options;
    return images.storageDriver === 'overlay2' ? imageGraphData(images.layerPaths(imageId)) : undefined;
  }

  /** Archives the changes as an image layer, into `use`. */
  async layer<T>(
    unit: ContainerUnit,
    signal: AbortSignal | undefined,
    use: (archive: AsyncIterable<Uint8Array>) => Promise<T>,
  ): Promise<T> {
    return await this.#compare(unit, 'layer', signal, async (session) => {
      const done = await use(answerStream(session, () => Promise.resolve()));
      await session.finished;
      return done;
    });
  }

  /** An archive of all files of the container, its volumes left out. */
  async export(reference: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const unit = this.#options.unit(reference);
    const held = await this.#hold(unit);
    try {
      const view = this.#tree(held.value, []);
      const session = await this.#session(view, { kind: 'export' }, signal);
      unit.record.event('export');
      return answerStream(session.value, async () => {
        await session.release();
        await held.release();
      });
    } catch (error) {
      await held.release();
      throw error;
    }
  }

  /** What the files of containers take, by id. Containers that are gone meanwhile are left out. */
  async sizes(references: readonly string[], signal?: AbortSignal): Promise<Map<string, ContainerSizes>> {
    const sizes = new Map<string, ContainerSizes>();
    const found: { id: string; imageBytes: number; path: string; whole: boolean }[] = [];
    for (const reference of references) {
      const { container } = this.#options.unit(reference);
      const { id, imageId } = container;
      const imageBytes = orNone(() => this.#options.images.get(imageId).sizeBytes) ?? 0;
      sizes.set(id, { rw: 0, rootFs: imageBytes });
      const parts = orNone(() => this.#options.images.rootParts(id));
      const path = parts === undefined ? '' : parts.upper || parts.merged;
      if (path !== '' && existsSync(path)) found.push({ id, imageBytes, path, whole: parts?.upper === '' });
    }
    for (let at = 0; at < found.length; at += SIZES_PER_JOB) {
      const some = found.slice(at, at + SIZES_PER_JOB);
      const mounts = some.map(({ path }, i) => ({ source: path, target: `/${i}`, readOnly: true }));
      const task: Task = { kind: 'sizes', paths: mounts.map(({ target }) => target) };
      const session = await this.#session(this.#only(mounts), task, signal);
      try {
        const bytes = JSON.parse((await wholeAnswer(session.value, SIZES_MAX_BYTES)).toString('utf8')) as number[];
        some.forEach(({ id, imageBytes, whole }, i) => {
          // Where image and container are kept together, what is more than the image is the container's.
          const rw = Math.max(0, (bytes[i] ?? 0) - (whole ? imageBytes : 0));
          sizes.set(id, { rw, rootFs: imageBytes + rw });
        });
      } finally {
        await session.release();
      }
    }
    return sizes;
  }

  #tree(root: string, mounts: ViewMount[], readOnly = true): View {
    return { kind: 'tree', scratch: this.#scratch, root, readOnly, mounts };
  }

  #only(mounts: ViewMount[]): View {
    return this.#tree('', mounts);
  }

  /** Mounts the root of a container for a job. @throws ShoalError Conflict while it is being removed */
  async #hold(unit: ContainerUnit): Promise<Held<string>> {
    return await unit.lock.run(async () => {
      const { id, imageId, state } = unit.container;
      if (unit.removed) throw notFound(`No such container: ${id}`);
      if (state === 'removing' || state === 'dead')
        throw conflict('container is marked for removal and cannot be used');
      const { path, release } = await this.#options.roots.hold(id, imageId, unit.running);
      return { value: path, release };
    });
  }

  async #compare<T>(
    unit: ContainerUnit,
    kind: 'changes' | 'layer',
    signal: AbortSignal | undefined,
    use: (session: Session) => Promise<T>,
  ): Promise<T> {
    const held = await this.#hold(unit);
    try {
      const { id, config } = unit.container;
      const parts = this.#options.images.rootParts(id);
      const shown = (source: string, target: string): ViewMount => ({ source, target, readOnly: true });
      const view = this.#only([
        shown(held.value, '/merged'),
        ...(parts.upper === '' ? [] : [shown(parts.upper, '/upper')]),
        ...parts.layers.map(({ path }, i) => shown(path, `/layers/${i}`)),
      ]);
      const job: ChangesJob = {
        merged: '/merged',
        upper: parts.upper === '' ? '' : '/upper',
        layers: parts.layers.map(({ removed, opaque }, i) => ({ path: `/layers/${i}`, removed, opaque })),
        ignored: [...RUNTIME_PLACES, ...config.files.map(({ target }) => target)],
      };
      const session = await this.#session(view, { kind, ...job }, signal);
      try {
        return await use(session.value);
      } finally {
        await session.release();
      }
    } finally {
      await held.release();
    }
  }

  async #with<T>(
    unit: ContainerUnit,
    task: Task,
    signal: AbortSignal | undefined,
    use: (session: Session) => Promise<T>,
  ): Promise<T> {
    const { value, release } = await this.#begin(unit, task, signal);
    try {
      return await use(value);
    } finally {
      value.socket.destroy();
      await release();
    }
  }

  /** Begins a job that sees what the container sees. */
  async #begin(unit: ContainerUnit, task: Task, signal: AbortSignal | undefined): Promise<Held<Session>> {
    const held = await this.#hold(unit);
    const releases = [held.release];
    const release = async (): Promise<void> => {
      for (const one of releases.splice(0).reverse()) await one();
    };
    try {
      const view = await this.#viewOf(unit, held.value, task, releases);
      const session = await this.#session(view, task, signal);
      releases.push(session.release);
      return { value: session.value, release };
    } catch (error) {
      await release();
      throw error;
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
      const source = await this.#sourceOf(mount, id, releases);
      if (source !== undefined) mounts.push({ source, target: mount.target, readOnly: mount.readOnly });
    }
    const byDepth = (a: ViewMount, b: ViewMount): number => a.target.split('/').length - b.target.split('/').length;
    return this.#tree(root, mounts.sort(byDepth), task.kind === 'write' && config.readOnlyRootfs);
  }

  async #sourceOf(mount: MountRequest, id: string, releases: (() => Promise<void>)[]): Promise<string | undefined> {
    if (mount.type === 'bind') return existsSync(mount.source) ? mount.source : undefined;
    if (mount.type !== 'volume') return undefined;
    const user = `${id}-files`;
    const source = await this.#options.volumes.acquire(mount.source, user);
    releases.push(() => this.#options.volumes.release(mount.source, user));
    return source;
  }

  /** Begins a job when there is a place for one; the place is free again after `release`. */
  async #session(view: View, task: Task, signal: AbortSignal | undefined): Promise<Held<Session>> {
    mkdirSync(this.#scratch, { recursive: true, mode: 0o700 });
    const { spawner, random, fileHelper: helper } = this.#options;
    return await new Promise<Held<Session>>((resolve, reject) => {
      void this.#jobs.run(async () => {
        try {
          const value = await openSession({ spawner, random, helper, directory: this.#directory, view, task, signal });
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

/** The value, or undefined when it cannot be had. */
function orNone<T>(get: () => T): T | undefined {
  try {
    return get();
  } catch (error) {
    if (isShoalError(error)) return undefined;
    throw error;
  }
}

/** Puts Docker's words to what a job says of a path. */
async function inWords<T>(reference: string, path: string, work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (isShoalError(error, 'NotFound')) throw notFound(`Could not find the file ${path} in container ${reference}`);
    if (isShoalError(error, 'InvalidArgument') && error.message === 'not a directory') {
      throw invalidArgument(`${path}: not a directory`);
    }
    throw error;
  }
}
