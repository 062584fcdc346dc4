/** Header compression of HTTP/2 (RFC 7541), without the Huffman code: what both ends of the benchmark need. */
import { ShoalError } from '../../base/index.ts';

/** Static table entries that gRPC uses (RFC 7541 appendix A): index to name and value. */
const STATIC = new Map<number, [string, string]>([
  [1, [':authority', '']],
  [2, [':method', 'GET']],
  [3, [':method', 'POST']],
  [4, [':path', '/']],
  [5, [':path', '/index.html']],
  [6, [':scheme', 'http']],
  [7, [':scheme', 'https']],
  [8, [':status', '200']],
  [31, ['content-type', '']],
  [58, ['user-agent', '']],
]);
const STATIC_ENTRIES = 61;
const TABLE_ENTRIES_MAX = 128;

function text(value: string): Buffer {
  const bytes = Buffer.from(value, 'latin1');
  if (bytes.length > 126) throw new ShoalError('InvalidArgument', `header text of ${bytes.length} bytes`);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

/** A header that the other side keeps in its table; `name` is text or an index of the static table. */
export function kept(name: string | number, value: string): Buffer {
  if (typeof name === 'number') return Buffer.concat([Buffer.of(0x40 | name), text(value)]);
  return Buffer.concat([Buffer.of(0x40), text(name), text(value)]);
}

/** A header that is not kept; `nameIndex` below 15. */
export function passing(nameIndex: number, value: string): Buffer {
  return Buffer.concat([Buffer.of(nameIndex), text(value)]);
}

/** A header that stands in a table at `index`, below 127. */
export function indexed(index: number): Buffer {
  return Buffer.of(0x80 | index);
}

/** Finds the `:path` of the requests of one connection. */
export class PathReader {
  /** Newest first. */
  #table: [string, string][] = [];
  /** Blocks that change no table mean the same until one does. */
  #known = new Map<string, string>();

  /** @throws ShoalError Unimplemented for the Huffman code. */
  path(block: Buffer): string {
    const key = block.toString('latin1');
    const found = this.#known.get(key);
    if (found !== undefined) return found;
    const entries = this.#table.length;
    const path = this.#decode(block);
    if (this.#table.length === entries) this.#known.set(key, path);
    else this.#known.clear();
    return path;
  }

  #decode(block: Buffer): string {
    const input = { block, at: 0 };
    let path = '';
    while (input.at < block.length) {
      const first = block[input.at] as number;
      let header: [string, string];
      if ((first & 0x80) !== 0) {
        header = this.#entry(integer(input, 7));
      } else if ((first & 0xe0) === 0x20) {
        integer(input, 5);
        continue;
      } else {
        const keep = (first & 0x40) !== 0;
        const index = integer(input, keep ? 6 : 4);
        const name = index === 0 ? string(input) : this.#entry(index)[0];
        header = [name, string(input)];
        if (keep) this.#table.unshift(header);
        if (this.#table.length > TABLE_ENTRIES_MAX) throw new ShoalError('ResourceExhausted', 'header table is full');
      }
      if (header[0] === ':path') path = header[1];
    }
    return path;
  }

  #entry(index: number): [string, string] {
    if (index <= STATIC_ENTRIES) return STATIC.get(index) ?? ['', ''];
    const entry = this.#table[index - STATIC_ENTRIES - 1];
    if (entry === undefined) throw new ShoalError('InvalidArgument', `header table has no entry ${index}`);
    return entry;
  }
}

function integer(input: { block: Buffer; at: number }, bits: number): number {
  const mask = 2 ** bits - 1;
  let value = (input.block[input.at++] ?? 0) & mask;
  if (value < mask) return value;
  for (let shift = 0; shift <= 21; shift += 7) {
    const byte = input.block[input.at++] ?? 0;
    value += (byte & 0x7f) * 2 ** shift;
    if ((byte & 0x80) === 0) return value;
  }
  throw new ShoalError('InvalidArgument', 'header integer is too large');
}

function string(input: { block: Buffer; at: number }): string {
  const huffman = ((input.block[input.at] ?? 0) & 0x80) !== 0;
  if (huffman) throw new ShoalError('Unimplemented', 'headers in the Huffman code');
  const length = integer(input, 7);
  const start = input.at;
  input.at += length;
  return input.block.toString('latin1', start, input.at);
}
