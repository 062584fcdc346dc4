/* What the daemon and its file helper say to each other: one job as JSON on standard input, one reply on standard output. */

import type { IdMapping } from '../types.ts';

/** A host path that stands at a place of a tree view. */
export interface ViewMount {
  source: string;
  target: string;
  readOnly: boolean;
  /** Path of a user namespace whose ids the owners are shown by, as in the container's root; only for reading. */
  shiftedBy?: string;
}

/** What a job sees as its whole file system. It is confined to it by the kernel. */
export type View =
  /** Mount namespace of a running container, named by a path that leads to it for as long as the job lasts. */
  | { kind: 'namespace'; path: string }
  /**
   * A directory with mounts over it; `root` empty: nothing but the mounts. `scratch` is an existing empty directory of
   * the host; what is mounted there is seen by the job alone.
   */
  | { kind: 'tree'; scratch: string; root: string; readOnly: boolean; mounts: ViewMount[] };

/** A place of the container that is a mount of its own, for the words about read-only ones. */
export interface MountRule {
  target: string;
  readOnly: boolean;
}

/** One layer below a container's own files, as a tree view shows it. */
export interface BaseLayer {
  /** Path in the view. */
  path: string;
  /** Paths (without leading slash) that it hides of the layers below. */
  removed: string[];
  /** Directories whose content below it is hidden. */
  opaque: string[];
}

/** Where the walk over what has changed finds things in its view. */
export interface ChangesJob {
  /** The whole tree as the container sees it. */
  merged: string;
  /** What the container has written, as overlayfs keeps it; empty: the whole tree is compared. */
  upper: string;
  /** Highest first. */
  layers: BaseLayer[];
  /** Empty files and directories at these places were made for the runtime: no changes. */
  ignored: string[];
}

export type Task =
  | { kind: 'stat'; path: string }
  | { kind: 'read'; path: string }
  | {
      kind: 'write';
      path: string;
      noOverwriteDirNonDir: boolean;
      /** `user[:group]` that owns all that is written; empty: the ids of the archive. */
      owner: string;
      readOnlyRoot: boolean;
      mounts: MountRule[];
    }
  | { kind: 'export' }
  | ({ kind: 'changes' } & ChangesJob)
  | ({ kind: 'layer' } & ChangesJob)
  /** Bytes of what a layer would hold. */
  | ({ kind: 'changes-size' } & ChangesJob)
  /** Bytes of content below each of these paths of the view; hard links count once, links at `ignored` places not. */
  | { kind: 'sizes'; paths: string[]; ignored: string[] };

export interface Job {
  /** Unix socket that carries the archive. */
  socket: string;
  view: View;
  task: Task;
  /** What users in archives are on the host; left out: the same. */
  ids?: IdMapping;
}

export type Reply = { ok: true } | { ok: false; code: 'NotFound' | 'InvalidArgument' | 'Internal'; message: string };

/** Facts of a file, as Docker's header tells them. */
export interface PathStat {
  name: string;
  size: number;
  /** Bits of Go's io/fs.FileMode. */
  mode: number;
  /** RFC 3339 with nanoseconds. */
  mtime: string;
  linkTarget: string;
}

/** A difference of a container's files to its image. Kinds as Docker numbers them. */
export interface FileChange {
  path: string;
  kind: 0 | 1 | 2;
}
export const CHANGED = 0;
export const ADDED = 1;
export const DELETED = 2;
