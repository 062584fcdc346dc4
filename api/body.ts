import { createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { invalidArgument, errorMessage } from '../base/index.ts';
import type { JsonObject } from './ports.ts';
import type { RequestContext } from './router.ts';

/** Largest JSON body that is read, bytes. */
const JSON_MAX_BYTES = 16 * 1024 * 1024;

/** Reads the body as a JSON object; an empty body gives {}. @throws ShoalError InvalidArgument */
export async function readJson({ request }: RequestContext): Promise<JsonObject> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > JSON_MAX_BYTES) throw invalidArgument(`request body is larger than ${JSON_MAX_BYTES} bytes`);
    chunks.push(chunk);
  }
  return parseJsonObject(Buffer.concat(chunks), request.headers['content-type']);
}

/** Reads bytes as a JSON object; none give {}. @throws ShoalError InvalidArgument */
export function parseJsonObject(bytes: Buffer, type: string | undefined): JsonObject {
  if (bytes.length === 0) return {};
  if (type !== undefined && !type.startsWith('application/json')) {
    throw invalidArgument(`unsupported Content-Type header (${type}): must be 'application/json'`);
  }
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch (error) {
    throw invalidArgument(`invalid JSON: ${errorMessage(error)}`);
  }
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) throw invalidArgument('invalid JSON: an object is expected');
  return value as JsonObject;
}

/** Copies the body into a file. */
export async function saveBody({ request, signal }: RequestContext, path: string): Promise<void> {
  await pipeline(request, createWriteStream(path), { signal });
}

/** A boolean of the query in Docker's reading: absent, empty, 0, no, false and none are false. */
export function queryBool(query: URLSearchParams, name: string): boolean {
  const value = (query.get(name) ?? '').trim().toLowerCase();
  return !['', '0', 'no', 'false', 'none'].includes(value);
}

/** A whole number of the query, or undefined when absent. @throws ShoalError InvalidArgument */
export function queryInt(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '') return undefined;
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw invalidArgument(`invalid value for ${name}: ${text}`);
  return value;
}

/** Unix seconds with fraction, or RFC 3339, as ms; undefined when absent or 0. @throws ShoalError InvalidArgument */
export function queryTimeMs(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === '' || text === '0') return undefined;
  const ms = /^\d+(\.\d+)?$/.test(text) ? Number(text) * 1000 : Date.parse(text);
  if (Number.isNaN(ms)) throw invalidArgument(`invalid value for ${name}: ${text}`);
  return ms;
}

/**
 * Unix seconds with up to nine digits of fraction, or RFC 3339, as RFC 3339 in UTC with nine digits; undefined when
 * absent or 0. @throws ShoalError InvalidArgument
 */
export function queryTime(query: URLSearchParams, name: string): string | undefined {
  const text = query.get(name);
  if (text === null || text === '' || /^0+(\.0+)?$/.test(text)) return undefined;
  const unix = /^(\d{1,12})(?:\.(\d{1,9})\d*)?$/.exec(text);
  const date = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?(Z|[+-]\d\d:\d\d)$/.exec(text);
  const ms = unix !== null ? Number(unix[1]) * 1000 : Date.parse(`${date?.[1] ?? ''}${date?.[3] ?? ''}`);
  const day = Number.isNaN(ms) || ms > TIME_MAX_MS ? undefined : new Date(ms).toISOString().slice(0, 19);
  if (day === undefined) throw invalidArgument(`invalid value for ${name}: ${text}`);
  return `${day}.${(unix?.[2] ?? date?.[2] ?? '').padEnd(9, '0')}Z`;
}

/** The end of the year 9999. */
const TIME_MAX_MS = 253_402_300_799_000;

/** Index of ?version=, required for updates. @throws ShoalError InvalidArgument in Docker's words */
export function queryVersion(query: URLSearchParams, what: string): number {
  const text = query.get('version') ?? '';
  if (!/^\d+$/.test(text)) throw invalidArgument(`invalid ${what} version '${text}': must be a number`);
  return Number(text);
}
