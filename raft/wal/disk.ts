/**
 * The part of a file system that the log needs. Paths are relative to the member's own directory, with `/` between
 * names. Errors are those of the file system (`ENOENT`, `ENOSPC`, `EIO`, …). The production disk is node-disk.ts; the
 * simulation has its own, which loses, tears and damages what is not synced.
 *
 * Calls without `done` block; they are for the start of a member and for things that cost no sync. `done` is called
 * once, never before the call has returned.
 */
export interface LogDisk {
  /** What people call the member's directory, for messages; none when it has no name. */
  readonly location?: string;
  /** Makes a directory and those above it, if missing. */
  makeDirectory(path: string): void;
  /** Names in a directory, sorted; empty when it does not exist. */
  list(path: string): string[];
  /** A whole file. @throws ENOENT */
  read(path: string): Buffer;
  readLater(path: string, done: (error: unknown, content: Buffer | null) => void): void;
  /** Makes `parts` the durable content of a file: written beside, synced, renamed, directory synced. All or nothing. */
  replace(path: string, parts: readonly Uint8Array[]): void;
  replaceLater(path: string, parts: readonly Uint8Array[], done: (error: unknown) => void): void;
  /** Makes a file of `bytes` zeros, durable, all of its blocks allocated. */
  allocate(path: string, bytes: number): void;
  allocateLater(path: string, bytes: number, done: (error: unknown) => void): void;
  /** Gives a file another name (replacing what bears it) and syncs the directory. */
  rename(from: string, to: string): void;
  renameLater(from: string, to: string, done: (error: unknown) => void): void;
  /** Deletes a file, if there; durable by the next sync of the directory, or earlier. */
  remove(path: string): void;
  /** Opens a file for writing inside its present length or at its end. */
  open(path: string): LogFile;
}

export interface LogFile {
  /** Writes all of `bytes` at `position`; durable when it returns. For the start of a member. */
  write(bytes: Uint8Array, position: number): void;
  /** The same without blocking. One at a time per file. */
  writeLater(bytes: Uint8Array, position: number, done: (error: unknown) => void): void;
  close(): void;
}
