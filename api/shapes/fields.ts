import { invalidArgument } from '../../base/index.ts';
import type { JsonObject } from '../ports.ts';

/** Integers of Docker's API are smaller, as an amount. */
const INT64_LIMIT = 2 ** 63;

/** Typed reading of a JSON object; a member of another type is refused with its path. */
export class Fields {
  readonly #json: JsonObject;
  readonly #path: string;

  constructor(json: JsonObject, path = '') {
    this.#json = json;
    this.#path = path;
  }

  #bad(name: string, want: string): Error {
    return invalidArgument(`invalid JSON: ${this.#path}${name} must be ${want}`);
  }

  #get(name: string): unknown {
    const value = this.#json[name];
    return value === null ? undefined : value;
  }

  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  string(name: string): string {
    const value = this.#get(name) ?? '';
    if (typeof value !== 'string') throw this.#bad(name, 'a string');
    return value;
  }

  bool(name: string): boolean {
    const value = this.#get(name) ?? false;
    if (typeof value !== 'boolean') throw this.#bad(name, 'a boolean');
    return value;
  }

  optionalBool(name: string): boolean | undefined {
    return this.has(name) ? this.bool(name) : undefined;
  }

  number(name: string): number {
    return this.optionalNumber(name) ?? 0;
  }

  optionalNumber(name: string): number | undefined {
    const value = this.#get(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'number') throw this.#bad(name, 'a number');
    if (Math.abs(value) >= INT64_LIMIT) throw this.#bad(name, 'a number of 64 bits');
    return value;
  }

  numbers(name: string): number[] {
    const value = this.#get(name) ?? [];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'number')) {
      throw this.#bad(name, 'a list of numbers');
    }
    return value;
  }

  strings(name: string): string[] {
    const value = this.#get(name) ?? [];
    if (!Array.isArray(value) || !value.every((item) => typeof item === 'string')) {
      throw this.#bad(name, 'a list of strings');
    }
    return value;
  }

  /** Lists of texts in a list. */
  stringLists(name: string): string[][] {
    const value = this.#get(name) ?? [];
    const texts = (list: unknown): boolean => Array.isArray(list) && list.every((item) => typeof item === 'string');
    if (!Array.isArray(value) || !value.every(texts)) throw this.#bad(name, 'a list of lists of strings');
    return value as string[][];
  }

  /** Words of a command line: a list, or a program's name alone. */
  words(name: string): string[] {
    const value = this.#get(name);
    return typeof value === 'string' ? [value] : this.strings(name);
  }

  /** Names of the members. */
  keys(): string[] {
    return Object.keys(this.#json);
  }

  stringMap(name: string): Record<string, string> {
    const value = this.#get(name) ?? {};
    if (typeof value !== 'object' || Array.isArray(value)) throw this.#bad(name, 'an object');
    const map = value as Record<string, unknown>;
    if (!Object.values(map).every((item) => typeof item === 'string')) throw this.#bad(name, 'an object of strings');
    return map as Record<string, string>;
  }

  /** A nested object; undefined when absent. */
  object(name: string): Fields | undefined {
    const value = this.#get(name);
    if (value === undefined) return undefined;
    if (typeof value !== 'object' || Array.isArray(value)) throw this.#bad(name, 'an object');
    return new Fields(value as JsonObject, `${this.#path}${name}.`);
  }

  objects(name: string): Fields[] {
    const value = this.#get(name) ?? [];
    if (!Array.isArray(value)) throw this.#bad(name, 'a list');
    return value.map((item: unknown, i) => {
      if (typeof item !== 'object' || item === null) throw this.#bad(`${name}[${i}]`, 'an object');
      return new Fields(item as JsonObject, `${this.#path}${name}[${i}].`);
    });
  }

  /** Base64 bytes. */
  bytes(name: string): Uint8Array {
    return Buffer.from(this.string(name), 'base64');
  }

  /** One of the keys of `table`; the empty string gives `otherwise`. */
  choice<T>(name: string, table: Readonly<Record<string, T>>, otherwise: T): T {
    const text = this.string(name);
    if (text === '') return otherwise;
    const word = text.toLowerCase();
    const value = Object.hasOwn(table, word) ? table[word] : undefined;
    if (value === undefined) throw invalidArgument(`invalid ${name}: "${text}"`);
    return value;
  }
}

/** The key of `value` in a table of API words. */
export function wordOf<T>(table: Readonly<Record<string, T>>, value: T): string {
  return Object.keys(table).find((key) => table[key] === value) ?? '';
}

/** The object without its undefined members, or undefined when nothing is left. */
export function orNothing<T extends object>(object: T): T | undefined {
  return Object.values(object).some((value) => value !== undefined) ? object : undefined;
}

/** Undefined for an empty list, so that it is left out of the JSON. */
export function listOrNothing<T>(list: readonly T[]): readonly T[] | undefined {
  return list.length === 0 ? undefined : list;
}

/** Undefined for an empty text or 0. */
export function textOrNothing<T extends string | number>(value: T): T | undefined {
  return value === '' || value === 0 ? undefined : value;
}

/** Undefined for an empty map. */
export function mapOrNothing(map: Readonly<Record<string, string>>): Readonly<Record<string, string>> | undefined {
  return Object.keys(map).length === 0 ? undefined : map;
}
