/* What the routes need of terminals: attached clients and execs. Structural, as ports.ts. */

export interface OutputFacts {
  stream: 'stdout' | 'stderr';
  data: Uint8Array;
}

/** One client of a process. */
export interface AttachedFacts {
  readonly tty: boolean;
  output(): AsyncIterable<readonly OutputFacts[]>;
  /** Resolves when there is room for more. */
  write(data: Uint8Array): Promise<void>;
  endInput(): Promise<void>;
  close(): void;
}

export interface AttachRequestFacts {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
  logs: boolean;
  stream: boolean;
  detachKeys: string;
}

export interface TerminalSizeFacts {
  height: number;
  width: number;
}

export interface ExecRequestFacts {
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
  consoleSize?: TerminalSizeFacts;
}

export interface ExecFacts {
  id: string;
  containerId: string;
  request: ExecRequestFacts;
  running: boolean;
  exitCode: number | undefined;
  pid: number;
}

export interface TerminalsPort {
  attach(reference: string, request: AttachRequestFacts, signal: AbortSignal): Promise<AttachedFacts>;
  resize(reference: string, size: TerminalSizeFacts): Promise<void>;
  createExec(reference: string, request: ExecRequestFacts): Promise<string>;
  /** Undefined when detached: the command then runs. */
  startExec(
    id: string,
    options: { detach: boolean; consoleSize?: TerminalSizeFacts },
  ): Promise<AttachedFacts | undefined>;
  resizeExec(id: string, size: TerminalSizeFacts): Promise<void>;
  inspectExec(id: string): ExecFacts;
  execIds(containerId: string): string[];
}
