import type { Clock } from '../base/index.ts';
import type { Client } from './client.ts';

/** Where text goes. */
export interface Output {
  write(text: string | Uint8Array): void;
  readonly isTerminal: boolean;
  /** Columns of the terminal; 0 when it is none. */
  readonly columns: number;
  /** Rows of the terminal; 0 or undefined when it is none. */
  readonly rows?: number;
  /** When more may be written; undefined when at once. */
  drained?(): Promise<void> | undefined;
}

/** The world of one command. */
export interface Context {
  readonly client: Client;
  readonly out: Output;
  readonly err: Output;
  readonly input: NodeJS.ReadStream;
  readonly clock: Clock;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Folder of docker's client settings (credentials). */
  readonly configDir: string;
  /** Aborts when the user interrupts; only commands that ask for it take the signal over. */
  onInterrupt(run: () => void): () => void;
  /** Takes a signal over until the returned function is called. */
  onSignal(signal: NodeJS.Signals, run: () => void): () => void;
}

/** Writes one line. */
export function say(output: Output, line: string): void {
  output.write(`${line}\n`);
}
