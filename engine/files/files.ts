import { existsSync } from 'node:fs';
import type { Readable } from 'node:stream';
import { invalidArgument, isShoalError, must, notFound } from '../../base/index.ts';
import type { ContainerUnit } from '../containers/unit.ts';
import type { Image } from '../types.ts';
import { commitContainer, type CommitOptions } from './commit.ts';
import { imageGraphData } from './graph.ts';
import { Jobs, orGone, orNone, RUNTIME_PLACES, type FilesOptions } from './jobs.ts';
import { answerStream, firstLine, wholeAnswer } from './session.ts';
import { sendArchive } from './upload.ts';
import type { FileChange, PathStat, Task } from './words.ts';

/** Longest list of changes that is given, bytes. */
const CHANGES_MAX_BYTES = 256 * 1024 * 1024;
/** Containers measured by one process. */
const SIZES_PER_JOB = 200;
/** Measured again so often when one of them goes meanwhile. */
const SIZES_TRIES_MAX = 5;
const SIZES_MAX_BYTES = 1024 * 1024;

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

/**
 * The file systems of containers: copies both ways, differences, archives, sizes. Every job runs in a process of its
 * own that is confined to what the container sees, so a container cannot lead it to files of the host, whatever it
 * changes meanwhile. Nothing is held in memory but what is on its way.
 */
export class ContainerFiles {
  readonly #options: FilesOptions;
  readonly #jobs: Jobs;

  constructor(options: FilesOptions) {
    this.#options = options;
    this.#jobs = new Jobs(options);
  }

  /** @throws ShoalError NotFound "Could not find the file …" */
  async stat(reference: string, path: string, signal?: AbortSignal): Promise<PathStat> {
    const unit = this.#options.unit(reference);
    return await this.#jobs.with(unit, { kind: 'stat', path }, signal, async (session) => {
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
    const { value: session, release } = await this.#jobs.begin(unit, { kind: 'read', path }, signal);
    try {
      const stat = JSON.parse(await inWords(reference, path, firstLine(session))) as PathStat;
      unit.record.event('archive-path');
      return { stat, archive: answerStream(session, release) };
    } catch (error) {
      session.socket.destroy();
      await release();
      throw orGone(unit, error);
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
    await this.#jobs.with(unit, task, signal, async (session) => {
      const spare = this.#jobs.spareFile();
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
    return await this.#jobs.compare(unit, 'changes', signal, async (session) => {
      const text = (await wholeAnswer(session, CHANGES_MAX_BYTES)).toString('utf8');
      const lines = text.split('\n').filter((line) => line !== '');
      return lines.flatMap((line) => JSON.parse(line) as FileChange[]);
    });
  }

  /** Makes an image of a container's changes. @throws ShoalError NotFound, InvalidArgument */
  async commit(reference: string, options: CommitOptions): Promise<Image> {
    return await commitContainer(this, this.#options.images, this.#options.unit(reference), options);
  }

  /** The directories that a storage driver shows of an image. @throws ShoalError NotFound */
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
    return await this.#jobs.compare(unit, 'layer', signal, async (session) => {
      const done = await use(answerStream(session, () => Promise.resolve()));
      await session.finished;
      return done;
    });
  }

  /** An archive of all files of the container, its volumes left out. */
  async export(reference: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>> {
    const unit = this.#options.unit(reference);
    const held = await this.#jobs.hold(unit);
    try {
      const view = this.#jobs.tree(held.value, []);
      const session = await this.#jobs.session(view, { kind: 'export' }, signal, unit.container.config.idMapping);
      unit.record.event('export');
      return answerStream(session.value, async () => {
        await session.release();
        await held.release();
      });
    } catch (error) {
      await held.release();
      throw orGone(unit, error);
    }
  }

  /** What the files of containers take, by id. Containers that are gone meanwhile are left out. */
  async sizes(references: readonly string[], signal?: AbortSignal): Promise<Map<string, ContainerSizes>> {
    const sizes = new Map<string, ContainerSizes>();
    const uppers: { id: string; path: string }[] = [];
    const tell = (id: string, imageId: string, rw: number): void => {
      sizes.set(id, { rw, rootFs: rw + (orNone(() => this.#options.images.get(imageId).sizeBytes) ?? 0) });
    };
    for (const reference of references) {
      const unit = orNone(() => this.#options.unit(reference));
      if (unit === undefined) continue;
      const { id, imageId } = unit.container;
      tell(id, imageId, 0);
      const parts = orNone(() => this.#options.images.rootParts(id));
      if (parts === undefined) continue;
      // Where image and container are kept together, only a comparison tells.
      if (parts.upper === '') tell(id, imageId, await this.#comparedSize(unit, signal));
      else if (existsSync(parts.upper)) uppers.push({ id, path: parts.upper });
    }
    const bytes = await this.treeSizes(
      uppers.map(({ path }) => path),
      signal,
      RUNTIME_PLACES,
    );
    for (const [i, { id }] of uppers.entries()) {
      const { rootFs } = must(sizes.get(id), 'what is known of a container');
      sizes.set(id, { rw: bytes[i] ?? 0, rootFs: rootFs + (bytes[i] ?? 0) });
    }
    return sizes;
  }

  /** What the files below directories of the host take, bytes each; 0 for what is not there, or goes meanwhile. */
  async treeSizes(paths: readonly string[], signal?: AbortSignal, ignored: readonly string[] = []): Promise<number[]> {
    const sizes = new Map<string, number>();
    for (let at = 0; at < paths.length; at += SIZES_PER_JOB) {
      const some = paths.slice(at, at + SIZES_PER_JOB);
      for (let tries = 1; ; tries++) {
        const there = some.filter((path) => existsSync(path));
        try {
          const found = there.length === 0 ? [] : await this.#sizesOf(there, signal, ignored);
          for (const [i, path] of there.entries()) sizes.set(path, found[i] ?? 0);
          break;
        } catch (error) {
          if (!isShoalError(error, 'NotFound') || tries >= SIZES_TRIES_MAX) throw error;
        }
      }
    }
    return paths.map((path) => sizes.get(path) ?? 0);
  }

  async #sizesOf(paths: readonly string[], signal: AbortSignal | undefined, ignored: readonly string[]) {
    const mounts = paths.map((source, i) => ({ source, target: `/${i}`, readOnly: true }));
    const task: Task = { kind: 'sizes', paths: mounts.map(({ target }) => target), ignored: [...ignored] };
    const session = await this.#jobs.session(this.#jobs.only(mounts), task, signal);
    try {
      return JSON.parse((await wholeAnswer(session.value, SIZES_MAX_BYTES)).toString('utf8')) as number[];
    } finally {
      await session.release();
    }
  }

  async #comparedSize(unit: ContainerUnit, signal: AbortSignal | undefined): Promise<number> {
    return await this.#jobs.compare(unit, 'changes-size', signal, async (session) =>
      Number(await wholeAnswer(session, SIZES_MAX_BYTES)),
    );
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
