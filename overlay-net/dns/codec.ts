/** Just enough of RFC 1035, 2782 and 6891 for a resolver that owns A, AAAA, PTR and SRV records. */
import { formatBytes, ipBytes } from '../ip.ts';
import { formatIp } from '../ip4.ts';

export const TYPE = { A: 1, PTR: 12, AAAA: 28, SRV: 33, OPT: 41, ANY: 255 } as const;
export const RCODE = { OK: 0, FORMAT: 1, SERVER_FAILURE: 2, NO_NAME: 3, NOT_IMPLEMENTED: 4, REFUSED: 5 } as const;
export const CLASS_IN = 1;
export const HEADER_BYTES = 12;
/** Largest UDP answer to a client that announced nothing (RFC 1035 4.2.1). */
export const UDP_BYTES_MIN = 512;
/** Largest UDP answer of ours, and the size we announce; it stays on the loopback link. */
export const UDP_BYTES_MAX = 4096;
const LABEL_BYTES_MAX = 63;
const NAME_BYTES_MAX = 255;
const FLAG_RESPONSE = 0x8000;
const FLAG_TRUNCATED = 0x0200;
const FLAG_RECURSION_DESIRED = 0x0100;
const FLAG_RECURSION_AVAILABLE = 0x0080;
const OPCODE_MASK = 0x7800;
const RCODE_MASK = 0x000f;
const OPT_BYTES = 11;
/** RCODE 16 (BADVERS) has its upper bits in the OPT record. */
const BAD_VERSION_UPPER = 1;

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
  /** The client speaks EDNS, in this version. */
  edns: number | undefined;
}

/** A record of an answer. `owner` is left out when it is the name that was asked for. */
export type Answer =
  | { type: 'A' | 'AAAA'; owner?: string; address: string }
  | { type: 'PTR'; owner?: string; name: string }
  | { type: 'SRV'; owner?: string; priority: number; weight: number; port: number; target: string };

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
    if (length === undefined || length > LABEL_BYTES_MAX || at - HEADER_BYTES + length > NAME_BYTES_MAX) {
      return undefined;
    }
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
    ...extension(bytes, at + 4),
  };
}

/** What the OPT record says, which clients put right behind the question. */
function extension(bytes: Buffer, at: number): Pick<Question, 'udpBytes' | 'edns'> {
  const none = { udpBytes: UDP_BYTES_MIN, edns: undefined };
  const onlyAdditional = bytes.readUInt16BE(6) === 0 && bytes.readUInt16BE(8) === 0 && bytes.readUInt16BE(10) > 0;
  if (!onlyAdditional || at + OPT_BYTES > bytes.length || bytes[at] !== 0) return none;
  if (bytes.readUInt16BE(at + 1) !== TYPE.OPT) return none;
  const udpBytes = Math.min(UDP_BYTES_MAX, Math.max(UDP_BYTES_MIN, bytes.readUInt16BE(at + 3)));
  return { udpBytes, edns: bytes[at + 6] };
}

/** A name on the wire, uncompressed; labels that are too long are cut, empty ones left out. */
function encodeName(name: string): Buffer {
  const parts = name.split('.').map((label) => {
    const bytes = Buffer.from(label, 'latin1').subarray(0, LABEL_BYTES_MAX);
    return bytes.length === 0 ? bytes : Buffer.concat([Uint8Array.of(bytes.length), bytes]);
  });
  return Buffer.concat([...parts, Uint8Array.of(0)]);
}

function encodeData(answer: Answer): Uint8Array {
  if (answer.type === 'PTR') return encodeName(answer.name);
  if (answer.type !== 'SRV') return ipBytes(answer.address);
  const head = Buffer.alloc(6);
  head.writeUInt16BE(answer.priority, 0);
  head.writeUInt16BE(Math.min(answer.weight, 0xffff), 2);
  head.writeUInt16BE(answer.port, 4);
  // RFC 2782: the target is never compressed.
  return Buffer.concat([head, encodeName(answer.target)]);
}

/** One record on the wire. */
export function encodeAnswer(answer: Answer, ttlSeconds: number): Buffer {
  // The name is the question's own, at the fixed place after the header.
  const owner = answer.owner === undefined ? Buffer.of(0xc0, HEADER_BYTES) : encodeName(answer.owner);
  const data = encodeData(answer);
  const head = Buffer.alloc(10);
  head.writeUInt16BE(TYPE[answer.type], 0);
  head.writeUInt16BE(CLASS_IN, 2);
  head.writeUInt32BE(ttlSeconds, 4);
  head.writeUInt16BE(data.length, 8);
  return Buffer.concat([owner, head, data]);
}

/** A response whose records are encoded once and put together, from another one first each time, when it is sent. */
export interface Prepared {
  /** Header and question, as they are without any record. */
  head: Buffer;
  answers: readonly Buffer[];
  /** Sent as far as there is room. */
  additional: readonly Buffer[];
  /** The OPT record; empty when the client speaks no EDNS. */
  opt: Buffer;
  limitBytes: number;
}

/** @param limitBytes largest response that the transport carries. */
export function prepareResponse(
  query: Uint8Array,
  question: Question,
  records: { rcode: number; answers: readonly Answer[]; additional?: readonly Answer[]; ttlSeconds: number },
  limitBytes: number,
): Prepared {
  const badVersion = question.edns !== undefined && question.edns !== 0;
  const head = Buffer.from(query.subarray(0, question.end));
  const desired = question.recursionDesired ? FLAG_RECURSION_DESIRED : 0;
  head.writeUInt16BE(FLAG_RESPONSE | desired | FLAG_RECURSION_AVAILABLE | (badVersion ? 0 : records.rcode), 2);
  head.writeUInt16BE(1, 4);
  head.fill(0, 6, HEADER_BYTES);
  const encode = (answer: Answer): Buffer => encodeAnswer(answer, records.ttlSeconds);
  return {
    head,
    answers: badVersion ? [] : records.answers.map(encode),
    additional: badVersion ? [] : (records.additional ?? []).map(encode),
    opt: question.edns === undefined ? Buffer.alloc(0) : optRecord(badVersion ? BAD_VERSION_UPPER : 0),
    limitBytes,
  };
}

function optRecord(rcodeUpper: number): Buffer {
  const opt = Buffer.alloc(OPT_BYTES);
  opt.writeUInt16BE(TYPE.OPT, 1);
  opt.writeUInt16BE(UDP_BYTES_MAX, 3);
  opt[5] = rcodeUpper;
  return opt;
}

/**
 * Writes a response into `into` (which has room for `limitBytes`) and returns its length. `turn` says which answer
 * comes first. Answers that do not fit are left out and the truncation flag is set, so that the client asks by TCP.
 */
export function writeResponse(prepared: Prepared, id: number, turn: number, into: Buffer): number {
  const { head, answers, additional, opt } = prepared;
  const room = prepared.limitBytes - opt.length;
  head.copy(into);
  into.writeUInt16BE(id, 0);
  let at = head.length;
  let count = 0;
  for (; count < answers.length; count++) {
    const record = answers[(turn + count) % answers.length] as Buffer;
    if (at + record.length > room) break;
    at += record.copy(into, at);
  }
  into.writeUInt16BE(count, 6);
  if (count < answers.length) into[2] = (into[2] as number) | (FLAG_TRUNCATED >>> 8);
  let more = 0;
  for (const record of additional) {
    if (at + record.length > room) break;
    at += record.copy(into, at);
    more++;
  }
  if (opt.length > 0) {
    at += opt.copy(into, at);
    more++;
  }
  into.writeUInt16BE(more, 10);
  return at;
}

/**
 * What is said to a message that is no query we can read: FORMERR or NOTIMP with its id; undefined (silence) for
 * responses, so that two servers never talk to each other for ever, and for what has no whole header.
 */
export function errorResponse(message: Uint8Array): Buffer | undefined {
  if (message.length < HEADER_BYTES || ((message[2] as number) & (FLAG_RESPONSE >>> 8)) !== 0) return undefined;
  const out = Buffer.alloc(HEADER_BYTES);
  out.set(message.subarray(0, 2), 0);
  const flags = ((message[2] as number) << 8) | (message[3] as number);
  const opcode = flags & OPCODE_MASK;
  const rcode = opcode === 0 ? RCODE.FORMAT : RCODE.NOT_IMPLEMENTED;
  out.writeUInt16BE(FLAG_RESPONSE | opcode | (flags & FLAG_RECURSION_DESIRED) | FLAG_RECURSION_AVAILABLE | rcode, 2);
  return out;
}

/** RCODE of a whole message. */
export function rcodeOf(message: Uint8Array): number {
  return (message[3] ?? 0) & RCODE_MASK;
}

/** Whether a message lost records for want of room. */
export function isTruncated(message: Uint8Array): boolean {
  return ((message[2] ?? 0) & (FLAG_TRUNCATED >>> 8)) !== 0;
}

/** A response of another server, cut to `limitBytes`: when it is longer, its question alone, marked as truncated. */
export function cutResponse(response: Buffer, question: Question, limitBytes: number): Buffer {
  if (response.length <= limitBytes) return response;
  const out = Buffer.from(response.subarray(0, Math.min(question.end, limitBytes)));
  out[2] = (out[2] as number) | (FLAG_TRUNCATED >>> 8);
  out.fill(0, 6, HEADER_BYTES);
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
