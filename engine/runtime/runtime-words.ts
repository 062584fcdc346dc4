import { ShoalError } from '../../base/index.ts';

/** What the runtime refused, with the exit code that docker gives for it. */
abstract class RuntimeRefusal extends ShoalError {
  readonly exitCode: number;
  constructor(message: string, exitCode: number) {
    super('InvalidArgument', message);
    this.exitCode = exitCode;
  }
}

/** A start that the runtime refused: `exitCode` as docker run reports it (127 not found, 126 not executable, else 128). */
export class StartFailed extends RuntimeRefusal {}

/** Turns the runtime's words into Docker's message and exit code. */
export function startFailure(runtimeWords: string): StartFailed {
  const words = runtimeWords.trim();
  const exitCode = /executable file not found|no such file or directory/i.test(words)
    ? 127
    : /permission denied|is a directory/i.test(words)
      ? 126
      : 128;
  return new StartFailed(
    `failed to create task for container: failed to create shim task: OCI runtime create failed: ${words}: unknown`,
    exitCode,
  );
}

/** An exec that the runtime refused: `exitCode` as docker exec reports it (127 not found, 126 else). */
export class ExecFailed extends RuntimeRefusal {}

/** Turns the runtime's words about an exec into Docker's message and exit code. */
export function execFailure(runtimeWords: string): ExecFailed {
  const words = runtimeWords.trim();
  const exitCode = /executable file not found|no such file or directory/i.test(words) ? 127 : 126;
  return new ExecFailed(`OCI runtime exec failed: ${words}: unknown`, exitCode);
}

/** The last error in a runtime's log of JSON lines. */
export function lastRuntimeError(log: string): string | undefined {
  for (const line of log.split('\n').reverse()) {
    try {
      const entry = JSON.parse(line) as { level?: string; msg?: string };
      if ((entry.level === 'error' || entry.level === 'fatal') && entry.msg !== undefined) return entry.msg;
    } catch {
      // Not a log line (the file ends with a line end).
    }
  }
  return undefined;
}
