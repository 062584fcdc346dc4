import { crc32 } from 'node:zlib';
import type { AppliedEntry, StateMachine } from '../options.ts';
import type { Checkers } from './checkers.ts';

/** A command: the number of a write, and filler. */
export function encodeCommand(id: number, fillerBytes: number): Uint8Array {
  const out = Buffer.alloc(8 + fillerBytes, id & 0xff);
  out.writeDoubleBE(id, 0);
  return out;
}

/** The replicated state: the list of writes and a hash over their history. Reports all it does to the checkers. */
export class ModelMachine implements StateMachine {
  readonly ids = new Set<number>();
  #hash = 0;
  readonly #member: number;
  readonly #checkers: Checkers;
  readonly #term: () => number;

  constructor(member: number, checkers: Checkers, term: () => number) {
    this.#member = member;
    this.#checkers = checkers;
    this.#term = term;
  }

  apply(entries: readonly AppliedEntry[]): void {
    for (const { index, term, data } of entries) {
      const id = Buffer.from(data.buffer, data.byteOffset, data.byteLength).readDoubleBE(0);
      this.#hash = crc32(`${index}:${id}`, this.#hash);
      this.ids.add(id);
      this.#checkers.applied(this.#member, index, { id, term, hash: this.#hash, knownInTerm: this.#term() });
    }
  }

  applyConfChange(): void {}

  snapshot(): Uint8Array {
    return Buffer.from(JSON.stringify({ hash: this.#hash, ids: [...this.ids] }));
  }

  restore(data: Uint8Array, index: number): void {
    const state = JSON.parse(Buffer.from(data).toString()) as { hash: number; ids: number[] };
    this.#hash = state.hash;
    this.ids.clear();
    for (const id of state.ids) this.ids.add(id);
    this.#checkers.restored(this.#member, index, this.#hash);
  }
}
