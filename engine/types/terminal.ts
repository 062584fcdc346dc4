/** A piece of a process' output. */
export interface OutputChunk {
  stream: 'stdout' | 'stderr';
  data: Uint8Array;
}

/** Why a client's stream ended. */
export type StreamEnd = 'process ended' | 'detached' | 'input ended' | 'client left' | 'stuck';

/** One client of a process: its output, and where its input goes. */
export interface Attached {
  /** Output is that of a terminal: one stream, with the terminal's line ends. */
  readonly tty: boolean;
  /** Output as it comes, until the process has ended and all of it is taken. Asked for once. */
  output(): AsyncIterable<readonly OutputChunk[]>;
  /** Passes input on; resolves when there is room for more. */
  write(data: Uint8Array): Promise<void>;
  /** The client sends no more input. */
  endInput(): Promise<void>;
  /** The client has gone. */
  close(): void;
  /** Undefined while the stream goes on. */
  readonly ended: StreamEnd | undefined;
}

export interface AttachRequest {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  /** The log first. */
  logs: boolean;
  /** What comes from now on. */
  stream: boolean;
  /** Docker's notation; empty for ctrl-p,ctrl-q. */
  detachKeys: string;
}

export interface TerminalSize {
  /** Characters. */
  height: number;
  width: number;
}

/** A command to run in a running container. */
export interface ExecCreateRequest {
  command: readonly string[];
  env: readonly string[];
  user?: string;
  workingDir?: string;
  privileged: boolean;
  tty: boolean;
  attachStdin: boolean;
  attachStdout: boolean;
  attachStderr: boolean;
  detachKeys: string;
  consoleSize?: TerminalSize;
}

/** An exec as it is. */
export interface ExecSession {
  id: string;
  containerId: string;
  request: ExecCreateRequest;
  running: boolean;
  /** Undefined until it has ended. */
  exitCode: number | undefined;
  /** On the host; 0 before the start. */
  pid: number;
}

/** Standard streams of containers and of commands run in them. */
export interface Terminals {
  /** @throws ShoalError NotFound, Conflict in Docker's words, InvalidArgument for detach keys */
  attach(reference: string, request: AttachRequest, signal: AbortSignal): Promise<Attached>;
  /** @throws ShoalError NotFound, Conflict when it does not run */
  resize(reference: string, size: TerminalSize): Promise<void>;
  /** Resolves with the exec's id. @throws ShoalError NotFound, Conflict, InvalidArgument */
  createExec(reference: string, request: ExecCreateRequest): Promise<string>;
  /**
   * Starts an exec. With `detach` it resolves when the command runs, else at once: why it could not be started is then
   * told in its output.
   * @throws ShoalError NotFound, Conflict; ExecFailed when detached and the command cannot be started
   */
  startExec(id: string, options: { detach: boolean; consoleSize?: TerminalSize }): Promise<Attached | undefined>;
  resizeExec(id: string, size: TerminalSize): Promise<void>;
  /** @throws ShoalError NotFound "No such exec instance: …" */
  inspectExec(id: string): ExecSession;
  /** Of one container, oldest first. */
  execIds(containerId: string): string[];
}
