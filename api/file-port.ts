import type { Readable } from 'node:stream';

/* What the routes need of the files of containers. Structural, as ports.ts. */

export interface PathStatFacts {
  name: string;
  size: number;
  /** Bits of Go's io/fs.FileMode. */
  mode: number;
  mtime: string;
  linkTarget: string;
}

export interface SizeFacts {
  rw: number;
  rootFs: number;
}

export interface FilesPort {
  stat(reference: string, path: string, signal?: AbortSignal): Promise<PathStatFacts>;
  read(
    reference: string,
    path: string,
    signal?: AbortSignal,
  ): Promise<{ stat: PathStatFacts; archive: AsyncIterable<Uint8Array> }>;
  write(
    reference: string,
    path: string,
    archive: Readable,
    options: { noOverwriteDirNonDir: boolean; copyUidGid: boolean },
    signal?: AbortSignal,
  ): Promise<void>;
  changes(reference: string, signal?: AbortSignal): Promise<{ path: string; kind: number }[]>;
  export(reference: string, signal?: AbortSignal): Promise<AsyncIterable<Uint8Array>>;
  commit(
    reference: string,
    options: {
      repository: string;
      tag: string;
      author: string;
      comment: string;
      changes: readonly string[];
      pause: boolean;
      /** Settings under Docker's names. */
      config?: Readonly<Record<string, unknown>>;
    },
  ): Promise<{ id: string }>;
  /** Directories of an image's layers, as the storage driver names them; undefined where it has no such. */
  imageGraph(imageId: string): Readonly<Record<string, string>> | undefined;
  /** By full id. */
  sizes(references: readonly string[], signal?: AbortSignal): Promise<ReadonlyMap<string, SizeFacts>>;
  /** Bytes of the files below directories of the host. */
  treeSizes(paths: readonly string[], signal?: AbortSignal): Promise<number[]>;
}
