import { spawn, type ChildProcess } from 'node:child_process';
import { until } from './until.ts';

/** A number is sent this often, ms. */
const SEND_EVERY_MS = 100;

/**
 * A connection to an echo server that stays open: numbers are sent on it one after another, and each must come back
 * once and in order. So a reset, a new connection in its place, or a byte lost or told twice all show.
 */
export class LongLived {
  readonly name: string;
  readonly #child: ChildProcess;
  readonly #timer: NodeJS.Timeout;
  #sent = 0;
  #heard = 0;
  #rest = '';
  #fault = '';

  /** @param command a program that joins its standard input and output with the server, such as socat */
  constructor(name: string, command: string, args: readonly string[]) {
    this.name = name;
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'], detached: true });
    this.#child.stdin?.on('error', () => undefined);
    this.#child.stdout?.on('data', (data: Buffer) => this.#hear(data.toString()));
    this.#child.on('exit', (code) => (this.#fault ||= `ended with code ${code} after ${this.#heard} answers`));
    this.#timer = setInterval(() => this.#child.stdin?.write(`${++this.#sent}\n`), SEND_EVERY_MS);
  }

  #hear(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) {
      if (Number(line) !== this.#heard + 1) this.#fault ||= `"${line}" came after ${this.#heard}`;
      this.#heard = Number(line);
    }
  }

  /** Waits until all that was sent by now has come back. @throws Error when it does not in time, or ever broke */
  async lives(timeoutMs: number): Promise<void> {
    const sent = this.#sent;
    await until(`${this.name} answers`, timeoutMs, () => this.#fault !== '' || this.#heard >= sent);
    if (this.#fault !== '') throw new Error(`${this.name} broke: ${this.#fault}`);
  }

  end(): void {
    clearInterval(this.#timer);
    this.#child.removeAllListeners('exit');
    this.#child.kill('SIGKILL');
  }
}
