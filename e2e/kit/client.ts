import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { directSpawner, must, systemClock, type SpawnRequest } from '../../base/index.ts';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
export const SHOAL = [process.execPath, join(ROOT, 'bin', 'shoal')] as const;

/** Names the clients' configuration directory; kit/setup.ts sets it for the whole run. */
export const CONFIG_DIR_VARIABLE = 'SHOAL_E2E_CONFIG';

/** A command that takes longer has hung, ms. */
const COMMAND_TIMEOUT_MS = 60_000;

export type ProgramName = 'docker' | 'shoal';

/** The stock client, where it is installed. */
export const DOCKER = (process.env.PATH ?? '')
  .split(':')
  .map((dir) => join(dir, 'docker'))
  .find((file) => existsSync(file));

/** Clients of this machine: the stock one where it is installed, and always ours. */
export const PROGRAMS: readonly ProgramName[] = DOCKER === undefined ? ['shoal'] : ['docker', 'shoal'];

/** The client that drives the suite; SHOAL_E2E_CLIENT=shoal runs everything through ours. */
export const PROGRAM: ProgramName =
  DOCKER === undefined || process.env['SHOAL_E2E_CLIENT'] === 'shoal' ? 'shoal' : 'docker';

/** How a command ended. */
export interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
  seconds: number;
  timedOut: boolean;
}

/** An empty configuration, so that nothing of this machine's user plays a part. */
const configDir = (): string =>
  must(process.env[CONFIG_DIR_VARIABLE], 'the configuration directory that kit/setup.ts makes');

/** docker's grammar spoken to one daemon. */
export class Client {
  readonly #host: string;
  readonly program: ProgramName;

  constructor(host: string, program: ProgramName = PROGRAM) {
    this.#host = host;
    this.program = program;
  }

  /** Value of DOCKER_HOST. */
  get host(): string {
    return this.#host;
  }

  /** Runs a command and reports its end, whatever it is. */
  async try(args: readonly string[], more: Partial<SpawnRequest> = {}): Promise<Outcome> {
    const began = systemClock.monotonic();
    const [file = '', ...before] = this.program === 'docker' ? [DOCKER ?? 'docker'] : SHOAL;
    const env: Record<string, string> = { PATH: process.env.PATH ?? '', HOME: configDir() };
    Object.assign(env, { DOCKER_HOST: this.#host, DOCKER_CONFIG: configDir() });
    const request = { file, args: [...before, ...args], env, timeoutMs: COMMAND_TIMEOUT_MS, ...more };
    const result = await directSpawner.run(request);
    return {
      code: result.code ?? -1,
      stdout: result.stdout.toString('utf8'),
      stderr: result.stderr.toString('utf8'),
      seconds: (systemClock.monotonic() - began) / 1000,
      timedOut: result.timedOut,
    };
  }

  /** Runs a command that must succeed; returns what it printed, without the last line end. */
  async run(...args: string[]): Promise<string> {
    const outcome = await this.try(args);
    if (outcome.code !== 0) {
      const end = outcome.timedOut ? `still running after ${COMMAND_TIMEOUT_MS / 1000} s` : `exit ${outcome.code}`;
      throw new Error(`${this.program} ${args.join(' ')}: ${end}\n${outcome.stderr.trim()}\n${outcome.stdout.trim()}`);
    }
    return outcome.stdout.trimEnd();
  }

  /** Runs a command that must fail; returns all its words. */
  async fails(...args: string[]): Promise<string> {
    const outcome = await this.try(args);
    const words = `${outcome.stderr}\n${outcome.stdout}`.trim();
    if (outcome.timedOut) throw new Error(`${this.program} ${args.join(' ')} hung`);
    if (outcome.code === 0) throw new Error(`${this.program} ${args.join(' ')} should have failed; it said: ${words}`);
    return words;
  }

  /** Lines of a command's output. */
  async lines(...args: string[]): Promise<string[]> {
    const text = await this.run(...args);
    return text === '' ? [] : text.split('\n');
  }

  /** First object that an `inspect` prints. */
  async inspect<T>(...args: string[]): Promise<T> {
    return (JSON.parse(await this.run(...args)) as T[])[0] as T;
  }
}
