/** Output kept of one program, per stream, bytes; what is beyond is dropped and `truncated` is set. */
export const SPAWN_OUTPUT_MAX_BYTES = 8 * 1024 * 1024;

/** One program to run to its end. */
export interface SpawnRequest {
  file: string;
  args: readonly string[];
  /** Whole environment; default: the caller's own. */
  env?: Readonly<Record<string, string>>;
  cwd?: string;
  /** Bytes given on standard input (empty by default). */
  stdin?: Uint8Array | string;
  /** A file opened as standard input, instead of `stdin`. */
  stdinFile?: string;
  /** A file that receives standard output (created or truncated), instead of collecting it. */
  stdoutFile?: string;
  /** Do not wait for output pipes to close, only for the process to exit: for programs that leave a daemon behind. */
  leavesDaemon?: boolean;
  /**
   * For programs that fork into the background and then tell how it went: descriptor 3 is a pipe, and the run ends with
   * the exit of the program and the first line in that pipe, which becomes `stdout`, or its end. Standard input is empty,
   * standard output is dropped, standard error goes to this file (created or truncated).
   */
  statusLine?: {
    stderrFile: string;
    /** Opened as descriptors 4, 5, …: to read or to write. A named pipe to read must have a writer already. */
    files?: readonly { path: string; flags: 'r' | 'w' }[];
  };
  /** Kill by SIGKILL after this time, ms; default 120 000. */
  timeoutMs?: number;
}

export interface SpawnResult {
  /** Exit code, or null when a signal ended it. */
  code: number | null;
  signal: string | null;
  stdout: Buffer;
  stderr: Buffer;
  truncated: boolean;
  timedOut: boolean;
}
