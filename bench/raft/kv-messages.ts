/**
 * The few messages of etcd's API v3 that the benchmark speaks (etcd `api/etcdserverpb/rpc.proto`), written by hand: field
 * numbers are facts, and a general encoder would weigh in the load generator.
 */
import { ShoalError } from '../../base/index.ts';

export const PUT_PATH = '/etcdserverpb.KV/Put';
export const RANGE_PATH = '/etcdserverpb.KV/Range';

/** A PutRequest {key = 1, value = 2}, a RangeRequest {key = 1, serializable = 7}: what our members need of both. */
export interface KvRequest {
  key: Buffer;
  value: Buffer | null;
  serializable: boolean;
}

const EMPTY = Buffer.alloc(0);

function varintBytes(value: number): number {
  let bytes = 1;
  for (let rest = value; rest >= 0x80; rest = Math.floor(rest / 128)) bytes++;
  return bytes;
}

function writeVarint(out: Uint8Array, at: number, value: number): number {
  let rest = value;
  let to = at;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) out[to++] = (rest % 128) | 0x80;
  out[to++] = rest;
  return to;
}

function bytesField(out: Buffer, at: number, field: number, value: Uint8Array): number {
  const start = writeVarint(out, writeVarint(out, at, (field << 3) | 2), value.length);
  out.set(value, start);
  return start + value.length;
}

function numberField(out: Buffer, at: number, field: number, value: number): number {
  return writeVarint(out, writeVarint(out, at, field << 3), value);
}

const bytesFieldSize = (length: number): number => 1 + varintBytes(length) + length;
const numberFieldSize = (value: number): number => 1 + varintBytes(value);

export function encodePut(key: Uint8Array, value: Uint8Array): Buffer {
  const out = Buffer.alloc(bytesFieldSize(key.length) + bytesFieldSize(value.length));
  bytesField(out, bytesField(out, 0, 1, key), 2, value);
  return out;
}

export function encodeRange(key: Uint8Array, serializable: boolean): Buffer {
  const out = Buffer.alloc(bytesFieldSize(key.length) + (serializable ? 2 : 0));
  const at = bytesField(out, 0, 1, key);
  if (serializable) numberField(out, at, 7, 1);
  return out;
}

/** Reads either request; unknown fields are skipped. */
export function decodeRequest(input: Buffer): KvRequest {
  const request: KvRequest = { key: EMPTY, value: null, serializable: false };
  let at = 0;
  const varint = (): number => {
    let value = 0;
    for (let shift = 0; shift < 63; shift += 7) {
      const byte = input[at++];
      if (byte === undefined) break;
      value += (byte & 0x7f) * 2 ** shift;
      if ((byte & 0x80) === 0) return value;
    }
    throw new ShoalError('InvalidArgument', 'malformed message');
  };
  while (at < input.length) {
    const tag = varint();
    const wire = tag & 7;
    const number = varint();
    if (wire === 0) {
      if (tag >>> 3 === 7) request.serializable = number !== 0;
      continue;
    }
    if (wire !== 2 || at + number > input.length) throw new ShoalError('InvalidArgument', 'malformed message');
    if (tag >>> 3 === 1) request.key = input.subarray(at, at + number);
    if (tag >>> 3 === 2) request.value = input.subarray(at, at + number);
    at += number;
  }
  return request;
}

/** ResponseHeader {cluster_id = 1, member_id = 2, revision = 3, raft_term = 4}. */
export interface ResponseHeader {
  memberId: number;
  revision: number;
  term: number;
}

function headerSize(header: ResponseHeader): number {
  const own = numberFieldSize(header.memberId) + numberFieldSize(header.revision) + numberFieldSize(header.term);
  return numberFieldSize(1) + own;
}

function writeHeader(out: Buffer, header: ResponseHeader, size: number): number {
  let at = writeVarint(out, writeVarint(out, 0, (1 << 3) | 2), size);
  at = numberField(out, at, 1, 1);
  at = numberField(out, at, 2, header.memberId);
  at = numberField(out, at, 3, header.revision);
  return numberField(out, at, 4, header.term);
}

/** PutResponse {header = 1}. */
export function encodePutResponse(header: ResponseHeader): Buffer {
  const size = headerSize(header);
  const out = Buffer.allocUnsafe(bytesFieldSize(size));
  writeHeader(out, header, size);
  return out;
}

/** What a member keeps of one key. */
export interface StoredValue {
  value: Buffer;
  createRevision: number;
  modRevision: number;
  version: number;
}

/** RangeResponse {header = 1, kvs = 2 (KeyValue {key, create_revision, mod_revision, version, value}), count = 4}. */
export function encodeRangeResponse(header: ResponseHeader, key: Buffer, stored: StoredValue | undefined): Buffer {
  const size = headerSize(header);
  if (stored === undefined) {
    const out = Buffer.allocUnsafe(bytesFieldSize(size));
    writeHeader(out, header, size);
    return out;
  }
  const revisions = numberFieldSize(stored.createRevision) + numberFieldSize(stored.modRevision);
  const pair =
    bytesFieldSize(key.length) + revisions + numberFieldSize(stored.version) + bytesFieldSize(stored.value.length);
  const out = Buffer.allocUnsafe(bytesFieldSize(size) + bytesFieldSize(pair) + 2);
  let at = writeHeader(out, header, size);
  at = writeVarint(out, writeVarint(out, at, (2 << 3) | 2), pair);
  at = bytesField(out, at, 1, key);
  at = numberField(out, at, 2, stored.createRevision);
  at = numberField(out, at, 3, stored.modRevision);
  at = numberField(out, at, 4, stored.version);
  at = bytesField(out, at, 5, stored.value);
  numberField(out, at, 4, 1);
  return out;
}
