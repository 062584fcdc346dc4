import type { RootIds } from '../types.ts';
import type { Whiteouts } from './apply.ts';

/** Is told after each step that changes the disk, by name: a test looks what a crash there would leave. */
export type OnStep = (step: string) => void;

/** An unpacked layer as a driver sees it. */
export interface LayerDirectory {
  /** Holds `diff`. */
  path: string;
  /** A short name for it (a symbolic link to `diff`), absolute. */
  link: string;
  /** What it hides of the layers below; read on demand. */
  whiteouts: () => Whiteouts;
}

/** Puts layers on top of each other. `root` is a container's own directory, which exists. */
export interface StorageDriver {
  readonly name: 'overlay2' | 'vfs';
  /**
   * Makes (or finds) the writable root over `layers`, lowest first; returns its path. Idempotent.
   * @param ids other owners than the layers have; what is written has those of the host
   * @throws ShoalError FailedPrecondition when this driver cannot do that
   */
  mount(root: string, layers: readonly LayerDirectory[], ids?: RootIds): Promise<string>;
  /** Idempotent; also for a root that was never mounted. */
  unmount(root: string): Promise<void>;
}
