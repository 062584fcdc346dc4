import { lstatSync, readdirSync, readFileSync } from 'node:fs';
import { extname, join } from 'node:path';
import type { CST } from 'yaml';
import { errorMessage } from '../../base/index.ts';

/*
 * Files of the Container Device Interface (cncf-tags/container-device-interface, SPEC.md): vendors say in JSON or YAML
 * what a device adds to a container. Later directories go before earlier ones.
 */

export const CDI_DIRECTORIES: readonly string[] = ['/etc/cdi', '/var/run/cdi'];
/** Files of one directory that are read. */
const FILES_MAX = 256;
/** Bytes of one file. YAML takes a hundred times as long to read as JSON (2 µs a byte), and all waits meanwhile. */
const MAX_BYTES: Readonly<Record<string, number>> = { '.json': 4 * 1024 * 1024, '.yaml': 128 * 1024 };
/** Things of a YAML file that are open at once: some levels of nesting take two. A sound one needs a dozen. */
const OPEN_MAX = 60;
/** What aliases of a YAML file may stand for, in repetitions of what they name. */
const ALIASES_MAX = 100;

export interface CdiDeviceNode {
  path: string;
  hostPath?: string;
  type?: string;
  major?: number;
  minor?: number;
  fileMode?: number;
  permissions?: string;
  uid?: number;
  gid?: number;
}

export interface CdiEdits {
  env?: string[];
  deviceNodes?: CdiDeviceNode[];
  hooks?: { hookName: string; path: string; args?: string[]; env?: string[]; timeout?: number }[];
  mounts?: { hostPath: string; containerPath: string; type?: string; options?: string[] }[];
  additionalGids?: number[];
}

export interface CdiSpec {
  kind: string;
  containerEdits?: CdiEdits;
  devices: { name: string; containerEdits?: CdiEdits }[];
}

export interface CdiDevice {
  spec: CdiSpec;
  edits: CdiEdits;
}

/** Devices by their qualified name `vendor.com/class=name`, and what is wrong with files. */
export interface CdiRegistry {
  devices: ReadonlyMap<string, CdiDevice>;
  problems: readonly string[];
}

/** A file as it was when it was read: its device, number, size and time. */
interface Known {
  version: string;
  spec: CdiSpec;
}

/** Reads the files of some directories; one that has not changed is read once. */
export class CdiFiles {
  readonly #directories: readonly string[];
  #known = new Map<string, Known>();

  constructor(directories: readonly string[] = CDI_DIRECTORIES) {
    this.#directories = directories;
  }

  /** What all files say by now; a damaged one is left out and told of. */
  async read(): Promise<CdiRegistry> {
    const devices = new Map<string, CdiDevice>();
    const problems: string[] = [];
    const known = new Map<string, Known>();
    for (const file of this.#directories.flatMap(filesOf)) {
      try {
        const found = await this.#readFile(file);
        known.set(file, found);
        for (const device of found.spec.devices) {
          const name = `${found.spec.kind}=${device.name}`;
          devices.set(name, { spec: found.spec, edits: device.containerEdits ?? {} });
        }
      } catch (error) {
        problems.push(`${file}: ${errorMessage(error)}`);
      }
    }
    // Files that are gone are forgotten.
    this.#known = known;
    return { devices, problems };
  }

  async #readFile(file: string): Promise<Known> {
    const { dev, ino, size, mtimeMs, ctimeMs } = lstatSync(file);
    const version = [dev, ino, size, mtimeMs, ctimeMs].join(' ');
    const known = this.#known.get(file);
    if (known?.version === version) return known;
    const type = extname(file);
    const most = MAX_BYTES[type] ?? 0;
    if (size > most) throw new Error(`it has more than ${most} bytes`);
    const text = readFileSync(file, 'utf8');
    return { version, spec: checkSpec(type === '.yaml' ? await parseYaml(text) : (JSON.parse(text) as unknown)) };
  }
}

/** As go-yaml reads it for Docker: octal numbers begin with 0, merge keys are known. @throws what is wrong with it */
async function parseYaml(text: string): Promise<unknown> {
  // Few hosts have such a file: the parser is not loaded for the others.
  const { Composer, isScalar, Lexer, LineCounter, Parser, visit } = await import('yaml');
  // Of the three steps only the last one calls itself: too deep a nesting would end the whole process there.
  const lines = new LineCounter();
  lines.addNewLine(0);
  const parser = new Parser(lines.addNewLine);
  const tokens = function* (): Generator<CST.Token> {
    for (const lexeme of new Lexer().lex(text)) {
      yield* parser.next(lexeme);
      if (parser.stack.length > OPEN_MAX) throw new Error('it is nested too deeply');
    }
    yield* parser.end();
  };
  // Whether a key is there twice is looked at below: the library compares each one with each other.
  const composer = new Composer({ version: '1.1', merge: true, logLevel: 'error', uniqueKeys: false });
  const [document] = composer.compose(tokens(), true, text.length);
  if (document === undefined) return undefined;
  const [error] = document.errors;
  if (error !== undefined) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw new Error(`${error.message} (line ${line}, column ${col})`);
  }
  visit(document, {
    Map: (_key, map) => {
      const seen = new Set<unknown>();
      for (const { key } of map.items) {
        const name = isScalar(key) ? key.value : key;
        if (seen.has(name)) throw new Error(`the key ${String(name)} is there twice`);
        seen.add(name);
      }
    },
  });
  return document.toJS({ maxAliasCount: ALIASES_MAX }) as unknown;
}

function checkSpec(value: unknown): CdiSpec {
  const spec = value as Partial<CdiSpec> | null | undefined;
  if (typeof spec?.kind !== 'string' || !/^[\w.-]+\/[\w.-]+$/.test(spec.kind)) throw new Error('it has no sound kind');
  const devices: unknown = spec.devices;
  const named = Array.isArray(devices) ? (devices as ({ name?: unknown } | null)[]) : [];
  // YAML takes a name of digits for a number.
  const names = named.map((device) => (typeof device?.name === 'number' ? String(device.name) : device?.name));
  if (!Array.isArray(devices) || !names.every((name) => typeof name === 'string')) {
    throw new Error('devices must be a list of objects with names');
  }
  return { ...(spec as CdiSpec), devices: named.map((device, at) => ({ ...device, name: names[at] as string })) };
}

function filesOf(directory: string): string[] {
  try {
    const names = readdirSync(directory).filter((name) => extname(name) in MAX_BYTES);
    return names
      .sort()
      .slice(0, FILES_MAX)
      .map((name) => join(directory, name));
  } catch {
    return [];
  }
}
