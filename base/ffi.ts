import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { assert } from './assert.ts';

/** What calls into native libraries go through; loaded at first use, so that a client start never pays for it. */
export type Ffi = typeof koffi;

let loaded: Ffi | undefined;

export function ffi(): Ffi {
  if (loaded !== undefined) return loaded;
  assert(process.platform === 'linux', 'system calls are made on Linux only');
  loaded = createRequire(import.meta.url)('koffi') as Ffi;
  return loaded;
}

type Library = ReturnType<Ffi['load']>;

/** What `declare` makes of the C library, at first use. */
export function fromLibc<T>(declare: (lib: Library) => T): () => T {
  let made: { calls: T } | undefined;
  return () => (made ??= { calls: declare(ffi().load('libc.so.6')) }).calls;
}

/** Number and name of an error that a call gave. */
export interface Errno {
  errno: number;
  /** As in errno(3): `ENOENT`. */
  code: string;
}

/** Names an error number. @param errno left out: of the last call that failed on this thread */
export function errnoOf(errno: number = ffi().errno()): Errno {
  const names = ffi().os.errno;
  return { errno, code: Object.keys(names).find((key) => names[key] === errno) ?? `errno ${errno}` };
}
