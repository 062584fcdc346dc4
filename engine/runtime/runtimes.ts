import { release } from 'node:os';
import { errorMessage, invalidArgument } from '../../base/index.ts';
import { findProgram, RUNTIMES, tryRuntime, type ProbeOptions } from './probe.ts';

const FEATURES_TIMEOUT_MS = 20_000;
/** mount_setattr(2), by which a whole tree becomes read-only, came with this kernel. */
const RECURSIVE_KERNEL = [5, 12] as const;
/** Names that Docker's shims go by. */
const ALIASES: Readonly<Record<string, string>> = { 'io.containerd.runc.v2': 'runc' };

/** An OCI runtime that containers may name. */
export interface RuntimeChoice {
  path: string;
  /** It makes all mounts below one read-only. */
  recursiveReadOnly: boolean;
}

/** The OCI runtimes of this host: the one that the daemon found, and others that work when they are first named. */
export class Runtimes {
  readonly defaultName: string;
  readonly #default: RuntimeChoice;
  readonly #options: ProbeOptions;
  /** Those of the configuration: name → path. */
  readonly #named: Readonly<Record<string, string>>;
  readonly #others = new Map<string, Promise<RuntimeChoice>>();

  constructor(
    name: string,
    choice: RuntimeChoice,
    options: ProbeOptions,
    named: Readonly<Record<string, string>> = {},
  ) {
    this.#named = named;
    this.defaultName = name;
    this.#default = choice;
    this.#options = options;
  }

  /** @throws ShoalError InvalidArgument when the name is of no runtime that works here. */
  get(name: string | undefined): Promise<RuntimeChoice> {
    const wanted = ALIASES[name ?? ''] ?? name ?? '';
    if (wanted === '' || wanted === this.defaultName) return Promise.resolve(this.#default);
    let found = this.#others.get(wanted);
    if (found === undefined) {
      found = this.#find(wanted);
      this.#others.set(wanted, found);
      // One that is installed later is found then.
      found.catch(() => this.#others.delete(wanted));
    }
    return found;
  }

  async #find(name: string): Promise<RuntimeChoice> {
    const unknown = `unknown or invalid runtime name: ${name}`;
    const names = [...RUNTIMES, ...Object.keys(this.#named)];
    if (!names.includes(name)) throw invalidArgument(`${unknown}; known here are ${names.join(', ')}`);
    const program = Object.hasOwn(this.#named, name) ? (this.#named[name] ?? name) : name;
    const path = program.startsWith('/') ? program : await findProgram(program);
    if (path === undefined) throw invalidArgument(`${unknown}: it is not installed; install the package ${program}`);
    const complaint = await tryRuntime(path, this.#options).catch(errorMessage);
    if (complaint !== undefined) throw invalidArgument(`${unknown}: it does not work here: ${complaint}`);
    return { path, recursiveReadOnly: await knowsRecursiveReadOnly(this.#options, path) };
  }
}

/** Whether a runtime and this kernel can make all mounts below one read-only. */
export async function knowsRecursiveReadOnly(
  { spawner }: Pick<ProbeOptions, 'spawner'>,
  path: string,
): Promise<boolean> {
  const [major = 0, minor = 0] = release().split('.').map(Number);
  if (major < RECURSIVE_KERNEL[0] || (major === RECURSIVE_KERNEL[0] && minor < RECURSIVE_KERNEL[1])) return false;
  try {
    const result = await spawner.run({ file: path, args: ['features'], timeoutMs: FEATURES_TIMEOUT_MS });
    const features = JSON.parse(result.stdout.toString('utf8')) as { mountOptions?: string[] };
    return features.mountOptions?.includes('rro') === true;
  } catch {
    // An older runtime does not know the verb.
    return false;
  }
}
