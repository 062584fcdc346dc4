/** Just enough of RFC 1035 (and the size of RFC 6891) for a resolver that owns A, AAAA and PTR records. */
import { formatBytes, ipBytes } from '../ip.ts';
import { formatIp } from '../ip4.ts';

export const TYPE = { A: 1, PTR: 12, AAAA: 28, OPT: 41, ANY: 255 } as const;
export const RCODE = { OK: 0, FORMAT: 1, SERVER_FAILURE: 2, NO_NAME: 3, NOT_IMPLEMENTED: 4 } as const;
export const HEADER_BYTES = 12;
/** Largest UDP answer to a client that announced nothing (RFC 1035 4.2.1). */
export const UDP_BYTES_MIN = 512;
const UDP_BYTES_MAX = 4096;
const LABEL_BYTES_MAX = 63;
const NAME_BYTES_MAX = 255;
const FLAG_RESPONSE = 0x8000;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;

export interface Question {
  id: number;
  /** Lower case, without the last dot. */
  name: string;
  type: number;
  class: number;
  recursionDesired: boolean;
  /** Bytes of the message up to the end of its question. */
  end: number;
  /** Largest UDP answer the client takes, bytes. */
  udpBytes: number;
}

export type Answer = { type: 'A' | 'AAAA'; address: string } | { type: 'PTR'; name: string };

/** Reads a query with one question; undefined when it is none that can be understood. */
export function decodeQuery(message: Uint8Array): Question | undefined {
  const bytes = Buffer.from(message.buffer, message.byteOffset, message.byteLength);
  if (bytes.length < HEADER_BYTES || (bytes.readUInt16BE(2) & 0xf800) !== 0 || bytes.readUInt16BE(4) !== 1) {
    return undefined;
  }
  const labels: string[] = [];
  let at = HEADER_BYTES;
  for (;;) {
    const length = bytes[at];
    if (length === undefined || length > LABEL_BYTES_MAX || at - HEADER_BYTES > NAME_BYTES_MAX) return undefined;
    at++;
    if (length === 0) break;
    if (at + length > bytes.length) return undefined;
    labels.push(bytes.toString('latin1', at, at + length));
    at += length;
  }
  if (at + 4 > bytes.length) return undefined;
  return {
    id: bytes.readUInt16BE(0),
    name: labels.join('.').toLowerCase(),
    type: bytes.readUInt16BE(at),
    class: bytes.readUInt16BE(at + 2),
    recursionDesired: (bytes.readUInt16BE(2) & FLAG_RECURSION_DESIRED) !== 0,
    end: at + 4,
    udpBytes: announcedSize(bytes, at + 4),
  };
}

function announcedSize(bytes: Buffer, at: number): number {
  const onlyAdditional = bytes.readUInt16BE(6) === 0 && bytes.readUInt16BE(8) === 0 && bytes.readUInt16BE(10) > 0;
  if (!onlyAdditional || at + 11 > bytes.length || bytes[at] !== 0) return UDP_BYTES_MIN;
  if (bytes.readUInt16BE(at + 1) !== TYPE.OPT) return UDP_BYTES_MIN;
  return Math.min(UDP_BYTES_MAX, Math.max(UDP_BYTES_MIN, bytes.readUInt16BE(at + 3)));
}

function encodeName(name: string): Buffer {
  const parts = name.split('.').map((label) => {
    const bytes = Buffer.from(label, 'latin1').subarray(0, LABEL_BYTES_MAX);
    return Buffer.concat([Uint8Array.of(bytes.length), bytes]);
  });
  return Buffer.concat([...parts, Uint8Array.of(0)]);
}

function encodeAnswer(answer: Answer, ttlSeconds: number): Buffer {
  const head = Buffer.alloc(12);
  // The name is the question's own, at the fixed place after the header.
  head.writeUInt16BE(0xc000 | HEADER_BYTES, 0);
  head.writeUInt16BE(TYPE[answer.type], 2);
  head.writeUInt16BE(1, 4);
  head.writeUInt32BE(ttlSeconds, 6);
  const data = answer.type === 'PTR' ? encodeName(answer.name) : ipBytes(answer.address);
  head.writeUInt16BE(data.length, 10);
  return Buffer.concat([head, data]);
}

/**
 * The response to a query. Answers that do not fit `limitBytes` are left out and the truncation flag is set, so that
 * the client may ask again by TCP.
 */
export function encodeResponse(
  query: Uint8Array,
  question: Question,
  answers: readonly Answer[],
  options: { rcode: number; ttlSeconds: number; limitBytes: number },
): Buffer {
  const parts: Buffer[] = [Buffer.from(query.subarray(0, question.end))];
  let length = question.end;
  let count = 0;
  for (const answer of answers) {
    const record = encodeAnswer(answer, options.ttlSeconds);
    if (length + record.length > options.limitBytes) break;
    parts.push(record);
    length += record.length;
    count++;
  }
  const out = Buffer.concat(parts);
  const truncated = count < answers.length ? FLAG_TRUNCATED : 0;
  const desired = question.recursionDesired ? FLAG_RECURSION_DESIRED : 0;
  out.writeUInt16BE(FLAG_RESPONSE | truncated | desired | FLAG_RECURSION_AVAILABLE | options.rcode, 2);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(count, 6);
  out.writeUInt16BE(0, 8);
  out.writeUInt16BE(0, 10);
  return out;
}

/** The address that a reverse name (4.3.2.1.in-addr.arpa, or 32 half bytes under ip6.arpa) asks about. */
export function reverseAddress(name: string): string | undefined {
  if (/^(?:[0-9a-f]\.){32}ip6\.arpa$/.test(name)) {
    return formatBytes(Buffer.from(name.slice(0, 64).replaceAll('.', '').split('').reverse().join(''), 'hex'));
  }
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (match === null) return undefined;
  const [a = 0, b = 0, c = 0, d = 0] = match.slice(1).map(Number);
  if ([a, b, c, d].some((part) => part > 255)) return undefined;
  return formatIp(((d << 24) | (c << 16) | (b << 8) | a) >>> 0);
}
