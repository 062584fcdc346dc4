import { assert, must } from '../../base/index.ts';
import type { RaftEntry, RaftEntryType } from '../../proto/index.ts';

/** Entries of one block at the most. */
const BLOCK_ENTRIES = 256;
/** Data of one block at the most, unless a single entry has more. */
const BLOCK_BYTES = 256 * 1024;
/** Entries at the end that stay as they are: what followers that keep up, and the disk, ask for. */
const TAIL_ENTRIES = 512;
/** Bytes before the data of an entry in a block: term (8), end of its data (4), type (1). */
const HEAD_BYTES = 13;
/** A view may keep about this much more than its own bytes in memory. */
const VIEW_SLACK_BYTES = 4096;

/** Old entries, packed: an entry object with its own array costs about 300 bytes, here one costs 13 and its data. */
class Block {
  readonly first: number;
  readonly count: number;
  readonly #terms: Float64Array;
  readonly #ends: Uint32Array;
  readonly #types: Uint8Array;
  readonly #data: Uint8Array;

  constructor(entries: readonly RaftEntry[], dataBytes: number) {
    const count = entries.length;
    const slab = new ArrayBuffer(count * HEAD_BYTES + dataBytes);
    this.first = must(entries[0], 'first entry of a block').index;
    this.count = count;
    this.#terms = new Float64Array(slab, 0, count);
    this.#ends = new Uint32Array(slab, count * 8, count);
    this.#types = new Uint8Array(slab, count * 12, count);
    this.#data = new Uint8Array(slab, count * HEAD_BYTES);
    let end = 0;
    for (let i = 0; i < count; i++) {
      const { term, type, data } = entries[i] as RaftEntry;
      this.#data.set(data, end);
      end += data.length;
      this.#terms[i] = term;
      this.#types[i] = type;
      this.#ends[i] = end;
    }
  }

  get last(): number {
    return this.first + this.count - 1;
  }

  term(index: number): number {
    return this.#terms[index - this.first] as number;
  }

  entry(index: number): RaftEntry {
    const at = index - this.first;
    const start = at === 0 ? 0 : (this.#ends[at - 1] as number);
    return {
      type: this.#types[at] as RaftEntryType,
      term: this.#terms[at] as number,
      index,
      data: this.#data.subarray(start, this.#ends[at]),
    };
  }
}

/**
 * Entries without gaps, in memory: the newest as objects, those that are done with packed into blocks. Appends, and
 * reads near the end, take constant time.
 */
export class EntryStore {
  #blocks: Block[] = [];
  /** Index of the first entry of the tail. */
  #tailFirst: number;
  #tail: RaftEntry[] = [];

  /** @param first index of the first entry that will be appended. */
  constructor(first: number) {
    this.#tailFirst = first;
  }

  get lastIndex(): number {
    return this.#tailFirst + this.#tail.length - 1;
  }

  /** The entry at `index`, undefined when it is not here. Those of packed entries are made anew by each call. */
  entry(index: number): RaftEntry | undefined {
    if (index >= this.#tailFirst) return this.#tail[index - this.#tailFirst];
    return this.#blockOf(index)?.entry(index);
  }

  term(index: number): number | undefined {
    if (index >= this.#tailFirst) return this.#tail[index - this.#tailFirst]?.term;
    return this.#blockOf(index)?.term(index);
  }

  #blockOf(index: number): Block | undefined {
    let low = 0;
    let high = this.#blocks.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      const block = this.#blocks[middle] as Block;
      if (index < block.first) high = middle - 1;
      else if (index > block.last) low = middle + 1;
      else return block;
    }
    return undefined;
  }

  push(entry: RaftEntry): void {
    assert(entry.index === this.lastIndex + 1, 'entries follow each other without gaps');
    this.#tail.push(entry);
  }

  /** Forgets the entries from `index` on. */
  truncate(index: number): void {
    assert(index >= this.#tailFirst, 'packed entries are committed and stay');
    this.#tail.length = index - this.#tailFirst;
  }

  /** Forgets the entries up to `index`, if that saves memory: some of them may stay. */
  forget(index: number): void {
    let blocks = 0;
    while (blocks < this.#blocks.length && (this.#blocks[blocks] as Block).last <= index) blocks++;
    if (blocks > 0) this.#blocks.splice(0, blocks);
    const count = index + 1 - this.#tailFirst;
    if (count <= 0) return;
    this.#tail.splice(0, count);
    this.#tailFirst = index + 1;
  }

  /** Packs entries up to `index`, which nobody will change any more, when enough have gathered. */
  pack(index: number): void {
    let count = 0;
    // Whole blocks only, and the tail keeps its length, so that each entry is moved once.
    while (this.#tail.length - count > TAIL_ENTRIES + BLOCK_ENTRIES) {
      const size = this.#packOne(count, index);
      if (size === 0) break;
      count += size;
    }
    if (count === 0) return;
    this.#tail.splice(0, count);
    this.#tailFirst += count;
  }

  /** Packs one block from position `from` of the tail. @returns its entries; 0 when they reach beyond `index`. */
  #packOne(from: number, index: number): number {
    let bytes = 0;
    let size = 0;
    for (; size < BLOCK_ENTRIES; size++) {
      const { data } = must(this.#tail[from + size], 'entry of the tail');
      if (size > 0 && bytes + data.length > BLOCK_BYTES) break;
      bytes += data.length;
    }
    if (this.#tailFirst + from + size - 1 > index) return 0;
    this.#blocks.push(new Block(this.#tail.slice(from, from + size), bytes));
    return size;
  }
}

/**
 * The same entries, with data that does not keep a much larger buffer (the received message) in memory. Data that came
 * together stays together.
 */
export function ownEntries(entries: readonly RaftEntry[]): readonly RaftEntry[] {
  const buffer = entries[0]?.data.buffer;
  if (buffer === undefined) return entries;
  let bytes = 0;
  let shared = true;
  for (const { data } of entries) {
    bytes += data.length;
    shared &&= data.buffer === buffer;
  }
  if (shared && buffer.byteLength <= 2 * bytes + VIEW_SLACK_BYTES) return entries;
  if (!shared && entries.every(({ data }) => data.buffer.byteLength <= 2 * data.length + VIEW_SLACK_BYTES)) {
    return entries;
  }
  const slab = new Uint8Array(bytes);
  let at = 0;
  return entries.map(({ type, term, index, data }) => {
    slab.set(data, at);
    at += data.length;
    return { type, term, index, data: slab.subarray(at - data.length, at) };
  });
}
