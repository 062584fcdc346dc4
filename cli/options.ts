import { UsageError, type CommandShape, type OptionSpec } from './option-spec.ts';
import { cut } from './words.ts';
import {
  parseBoolean,
  parseBytes,
  parseCpus,
  parseDuration,
  parseFloatValue,
  parseInteger,
  parseUint,
} from './units.ts';

interface Kind {
  parse: (text: string) => unknown;
  many?: boolean;
  initial?: unknown;
}

function parseFilter(text: string): readonly [string, string] {
  const [name, value] = cut(text, '=');
  if (value === undefined) throw new Error('bad format of filter (expected name=value)');
  return [name.trim().toLowerCase(), value.trim()];
}

function positiveDuration(text: string): number {
  const value = parseDuration(text);
  if (value < 0) throw new Error('duration cannot be negative');
  return value;
}

/** Kinds that several commands use; an option of another kind brings its own parser. */
const KINDS: Readonly<Record<string, Kind>> = {
  bool: { parse: parseBoolean, initial: false },
  string: { parse: (text) => text, initial: '' },
  list: { parse: (text) => text, many: true },
  map: { parse: (text) => text, many: true },
  uint: { parse: parseUint },
  uint32: { parse: parseUint },
  strings: { parse: (text) => text.split(','), many: true, initial: [] },
  int: { parse: parseInteger },
  float: { parse: parseFloatValue },
  decimal: { parse: parseCpus },
  bytes: { parse: parseBytes },
  duration: { parse: positiveDuration },
  filter: { parse: parseFilter, many: true },
};

/** The options of one command line. */
export class Flags {
  readonly #specs: ReadonlyMap<string, OptionSpec>;
  readonly #values = new Map<string, unknown>();

  constructor(specs: readonly OptionSpec[]) {
    this.#specs = new Map(specs.map((spec) => [spec.name, spec]));
  }

  /** Whether the option was given. */
  changed(...names: string[]): boolean {
    return names.some((name) => this.#values.has(name));
  }

  /** Names of all options that were given. */
  get given(): string[] {
    return [...this.#values.keys()];
  }

  bool(name: string): boolean {
    return this.value<boolean>(name) ?? false;
  }

  string(name: string): string {
    return this.value<string>(name) ?? '';
  }

  number(name: string): number | undefined {
    return this.value<number>(name);
  }

  list<T = string>(name: string): T[] {
    return this.value<T[]>(name) ?? [];
  }

  /** The value of an option, or its initial one. Its type is what the option's parser gives. */
  value<T>(name: string): T | undefined {
    const spec = this.#specs.get(name);
    const kind = KINDS[spec?.kind ?? ''];
    return (this.#values.has(name) ? this.#values.get(name) : (spec?.initial ?? kind?.initial)) as T | undefined;
  }

  /** Filters in the API's form. */
  get filters(): Record<string, string[]> {
    const result: Record<string, string[]> = {};
    for (const [name, value] of this.list<readonly [string, string]>('filter')) (result[name] ??= []).push(value);
    return result;
  }

  set(spec: OptionSpec, text: string): void {
    const kind = KINDS[spec.kind];
    const parse = spec.parse ?? kind?.parse ?? ((value: string) => value);
    let value: unknown;
    try {
      value = parse(text);
    } catch (error) {
      const shown = spec.short === undefined ? `--${spec.name}` : `-${spec.short}, --${spec.name}`;
      throw new UsageError(
        `invalid argument ${JSON.stringify(text)} for "${shown}" flag: ${(error as Error).message}`,
        125,
      );
    }
    const name = spec.of ?? spec.name;
    if (spec.many ?? kind?.many ?? false) {
      // One word may stand for several values (a range of ports).
      const before = (this.#values.get(name) as unknown[] | undefined) ?? [];
      this.#values.set(name, before.concat(spec.kind === 'filter' ? [value] : value));
    } else {
      this.#values.set(name, value);
    }
  }
}

const HELP: OptionSpec = { name: 'help', kind: 'bool', help: 'Print usage' };

interface Reading {
  flags: Flags;
  words: string[];
  specs: readonly OptionSpec[];
  rest: string[];
}

function readLong(reading: Reading, text: string): void {
  const [name, given] = cut(text.slice(2), '=');
  const spec = reading.specs.find((one) => one.name === name);
  if (spec === undefined || name === '') throw new UsageError(`unknown flag: --${name}`, 125);
  if (given !== undefined) reading.flags.set(spec, given);
  else if (spec.kind === 'bool') reading.flags.set(spec, 'true');
  else {
    const value = reading.rest.shift();
    if (value === undefined) throw new UsageError(`flag needs an argument: --${name}`, 125);
    reading.flags.set(spec, value);
  }
}

function readShort(reading: Reading, text: string): void {
  for (let i = 1; i < text.length; i++) {
    const letter = text[i] ?? '';
    const spec = reading.specs.find((one) => one.short === letter);
    if (spec === undefined) throw new UsageError(`unknown shorthand flag: '${letter}' in ${text}`, 125);
    const after = text.slice(i + 1);
    if (spec.kind === 'bool') {
      reading.flags.set(spec, after.startsWith('=') ? after.slice(1) : 'true');
      if (after.startsWith('=')) return;
      continue;
    }
    if (after !== '') reading.flags.set(spec, after.startsWith('=') ? after.slice(1) : after);
    else {
      const value = reading.rest.shift();
      if (value === undefined) throw new UsageError(`flag needs an argument: '${letter}' in ${text}`, 125);
      reading.flags.set(spec, value);
    }
    return;
  }
}

/** Reads options and arguments as docker's own parser (pflag) does. @throws UsageError */
export function readOptions(
  specs: readonly OptionSpec[],
  words: readonly string[],
  stopAtArgument: boolean,
): { flags: Flags; words: string[]; help: boolean } {
  const all = [...specs, HELP];
  const reading: Reading = { flags: new Flags(all), words: [], specs: all, rest: [...words] };
  for (let word = reading.rest.shift(); word !== undefined; word = reading.rest.shift()) {
    if (word === '--') {
      reading.words.push(...reading.rest.splice(0));
    } else if (word === '-h' && !all.some((spec) => spec.short === 'h')) {
      reading.flags.set(HELP, 'true');
    } else if (word.startsWith('--')) {
      readLong(reading, word);
    } else if (word.startsWith('-') && word !== '-') {
      readShort(reading, word);
    } else {
      reading.words.push(word);
      if (stopAtArgument) reading.words.push(...reading.rest.splice(0));
    }
    if (reading.flags.bool('help')) break;
  }
  return { flags: reading.flags, words: reading.words, help: reading.flags.bool('help') };
}

const plural = (count: number): string => `${count} argument${count === 1 ? '' : 's'}`;

/** Refuses a wrong number of arguments. @throws UsageError in docker's words */
export function checkArguments(path: string, command: CommandShape, words: readonly string[]): void {
  const { min, max } = command.arguments;
  if (words.length >= min && words.length <= max) return;
  const name = `'${path}'`;
  if (max === 0) throw new UsageError(`${name} accepts no arguments`, 1);
  if (min === max) throw new UsageError(`${name} requires ${plural(min)}`, 1);
  if (max === Infinity) throw new UsageError(`${name} requires at least ${plural(min)}`, 1, true);
  if (min === 0) throw new UsageError(`${name} requires at most ${plural(max)}`, 1);
  throw new UsageError(`${name} requires at least ${min} and at most ${plural(max)}`, 1);
}
