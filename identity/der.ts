import { ShoalError } from '../base/index.ts';

/** Tags of the universal ASN.1 types used in certificates (X.690 §8). */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** Depth of nesting a reader follows; certificates need less than ten. */
const MAX_DEPTH = 32;

/** One element that was read: its tag, its content, and all of its bytes with the header. */
export interface DerNode {
  readonly tag: number;
  readonly content: Buffer;
  readonly raw: Buffer;
}

function lengthBytes(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length]);
  const digits: number[] = [];
  for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) digits.unshift(rest % 256);
  return Buffer.from([0x80 | digits.length, ...digits]);
}

/** An element with the given tag around the parts. */
export function element(tag: number, ...parts: Uint8Array[]): Buffer {
  const content = Buffer.concat(parts);
  return Buffer.concat([Buffer.from([tag]), lengthBytes(content.length), content]);
}

export const sequence = (...parts: Uint8Array[]): Buffer => element(TAG.sequence, ...parts);

/** A SET OF, sorted as DER demands (X.690 §11.6). */
export const setOf = (...parts: Uint8Array[]): Buffer => element(TAG.set, ...[...parts].sort(Buffer.compare));

/** A context-specific tag; `constructed` when it wraps whole elements. */
export const context = (number: number, constructed: boolean, ...parts: Uint8Array[]): Buffer =>
  element((constructed ? 0xa0 : 0x80) | number, ...parts);

/** A non-negative integer from its big-endian bytes. */
export function unsignedInteger(bytes: Uint8Array): Buffer {
  let from = 0;
  while (from < bytes.length - 1 && bytes[from] === 0) from++;
  const trimmed = Buffer.from(bytes.subarray(from));
  const signBit = ((trimmed[0] ?? 0) & 0x80) !== 0;
  return element(TAG.integer, signBit ? Buffer.concat([Buffer.from([0]), trimmed]) : trimmed);
}

export const smallInteger = (value: number): Buffer => element(TAG.integer, Buffer.from([value]));
export const boolean = (value: boolean): Buffer => element(TAG.boolean, Buffer.from([value ? 0xff : 0]));
export const octetString = (bytes: Uint8Array): Buffer => element(TAG.octetString, bytes);
export const utf8String = (text: string): Buffer => element(TAG.utf8String, Buffer.from(text, 'utf8'));

/** @param unusedBits bits at the end that carry nothing. */
export const bitString = (bytes: Uint8Array, unusedBits = 0): Buffer =>
  element(TAG.bitString, Buffer.from([unusedBits]), bytes);

/** An object identifier from its dotted form (X.690 §8.19). */
export function oid(dotted: string): Buffer {
  const arcs = dotted.split('.').map(Number);
  const [first = 0, second = 0, ...rest] = arcs;
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const groups = [arc & 0x7f];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128))
      groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return element(TAG.oid, Buffer.from(bytes));
}

/** A point in time, second resolution: UTCTime until 2049, GeneralizedTime after (RFC 5280 §4.1.2.5). */
export function time(ms: number): Buffer {
  const iso = new Date(ms).toISOString();
  const digits = `${iso.slice(0, 19).replace(/[-:T]/g, '')}Z`;
  const year = Number(digits.slice(0, 4));
  if (year >= 1950 && year < 2050) return element(TAG.utcTime, Buffer.from(digits.slice(2), 'ascii'));
  return element(TAG.generalizedTime, Buffer.from(digits, 'ascii'));
}

const malformed = (what: string): ShoalError => new ShoalError('InvalidArgument', `malformed DER: ${what}`);

/** Reads the element at `offset`. @throws ShoalError InvalidArgument when the bytes are no DER. */
export function readAt(bytes: Uint8Array, offset = 0): DerNode {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tag = buffer[offset];
  const first = buffer[offset + 1];
  if (tag === undefined || first === undefined) throw malformed('it ends before a header');
  if ((tag & 0x1f) === 0x1f) throw malformed('tags above 30 are not used here');
  let length = first;
  let header = 2;
  if (first >= 0x80) {
    const count = first & 0x7f;
    if (count === 0 || count > 4) throw malformed('a length is indefinite or too long');
    if (offset + 2 + count > buffer.length) throw malformed('it ends inside a length');
    length = buffer.readUIntBE(offset + 2, count);
    header = 2 + count;
  }
  const end = offset + header + length;
  if (end > buffer.length) throw malformed('an element is longer than what holds it');
  return { tag, content: buffer.subarray(offset + header, end), raw: buffer.subarray(offset, end) };
}

/** The elements inside a constructed element. @throws ShoalError InvalidArgument */
export function children(node: DerNode): DerNode[] {
  const found: DerNode[] = [];
  for (let offset = 0; offset < node.content.length;) {
    const child = readAt(node.content, offset);
    found.push(child);
    offset += child.raw.length;
  }
  return found;
}

/** The one whole element in `bytes`, of the given tag. @throws ShoalError InvalidArgument */
export function readWhole(bytes: Uint8Array, tag: number): DerNode {
  const node = readAt(bytes);
  if (node.raw.length !== bytes.length) throw malformed('bytes follow the end');
  return expectTag(node, tag);
}

/** @throws ShoalError InvalidArgument when the element is absent or has another tag. */
export function expectTag(node: DerNode | undefined, tag: number): DerNode {
  if (node === undefined || node.tag !== tag) throw malformed(`expected tag 0x${tag.toString(16)}`);
  return node;
}

/** Dotted form of an object identifier. */
export function readOid(node: DerNode): string {
  expectTag(node, TAG.oid);
  const arcs: number[] = [];
  let value = 0;
  for (const byte of node.content) {
    value = value * 128 + (byte & 0x7f);
    if ((byte & 0x80) !== 0) continue;
    arcs.push(value);
    value = 0;
  }
  const first = arcs.shift() ?? 0;
  const root = Math.min(2, Math.floor(first / 40));
  return [root, first - root * 40, ...arcs].join('.');
}

/** ms since the epoch of a UTCTime or GeneralizedTime in the form of RFC 5280. @throws ShoalError InvalidArgument */
export function readTime(node: DerNode): number {
  const text = node.content.toString('ascii');
  const short = /^(\d\d)(\d{10})Z$/.exec(text);
  let digits: string;
  if (node.tag === TAG.utcTime && short !== null) digits = `${Number(short[1]) < 50 ? '20' : '19'}${text.slice(0, 12)}`;
  else if (node.tag === TAG.generalizedTime && /^\d{14}Z$/.test(text)) digits = text.slice(0, 14);
  else throw malformed('a time has an unknown form');
  const part = (from: number, length = 2): number => Number(digits.slice(from, from + length));
  return Date.UTC(part(0, 4), part(4) - 1, part(6), part(8), part(10), part(12));
}

/** Text of a string element of any of the usual kinds. */
export function readText(node: DerNode): string {
  return node.content.toString(node.tag === TAG.utf8String ? 'utf8' : 'latin1');
}

/** Bytes of a BIT STRING without unused bits. @throws ShoalError InvalidArgument */
export function readBitString(node: DerNode): Buffer {
  expectTag(node, TAG.bitString);
  if (node.content[0] !== 0) throw malformed('a bit string has unused bits');
  return node.content.subarray(1);
}

/** First element at any depth that satisfies `test`, in document order. */
export function findNode(node: DerNode, test: (node: DerNode) => boolean, depth = 0): DerNode | undefined {
  if (test(node)) return node;
  if ((node.tag & 0x20) === 0 || depth >= MAX_DEPTH) return undefined;
  for (const child of children(node)) {
    const found = findNode(child, test, depth + 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

const PEM_LINE = 64;

/** PEM of one DER object: lines of 64 characters, one newline at the end (the digest of a root depends on it). */
export function toPem(label: string, der: Uint8Array): string {
  const text = Buffer.from(der.buffer, der.byteOffset, der.byteLength).toString('base64');
  const lines: string[] = [];
  for (let from = 0; from < text.length; from += PEM_LINE) lines.push(text.slice(from, from + PEM_LINE));
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

/** All DER objects of a label in a PEM text, in order. */
export function fromPem(label: string, pem: string): Buffer[] {
  const pattern = new RegExp(`-----BEGIN ${label}-----([^-]*)-----END ${label}-----`, 'g');
  return [...pem.matchAll(pattern)].map((match) => Buffer.from((match[1] as string).replace(/\s+/g, ''), 'base64'));
}
