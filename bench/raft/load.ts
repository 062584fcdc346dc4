import { readFileSync } from 'node:fs';
import { must, ShoalError, systemClock } from '../../base/index.ts';
import { GrpcConnection, type Caller } from './grpc-client.ts';
import { encodePut, encodeRange, PUT_PATH, RANGE_PATH } from './kv-messages.ts';

/** Connections that the clients share at the most, as `benchmark --conns` of etcd does; the same for both sides. */
export const CONNECTIONS_MAX = 8;
/** Different keys; all have a value before reads are measured. */
export const KEYS = 10_000;
export const VALUE_BYTES = 256;
/** Requests outstanding while keys are filled. */
const FILLERS = 64;
const KEY_DIGITS = 8;
const KEY_PREFIX = 'bench/';
/** /proc/PID/stat counts processor time in this many parts of a second on every Linux of today. */
const STAT_TICKS_PER_SECOND = 100;

/** `null`: a read that the member answers by itself (serializable), of a key that does not exist. */
export type Operation = 'write' | 'read' | 'null';

export interface Target {
  host: string;
  port: number;
  /** Processes whose time is counted. */
  pids: readonly number[];
}

/** One measured load. Times of a request in ms, of processors in µs per request. */
export interface LoadResult {
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
  requests: number;
  failed: number;
  generatorCpuUs: number;
  membersCpuUs: number;
}

function keyBytes(number: number): Buffer {
  return Buffer.from(`${KEY_PREFIX}${String(number).padStart(KEY_DIGITS, '0')}`, 'latin1');
}

/** Requests for keys by number; a client has one, so nothing is made per request. */
class Requests {
  readonly path: string;
  readonly #template: Buffer;
  readonly #keyAt: number;

  constructor(operation: Operation, valueBytes = VALUE_BYTES) {
    const key = keyBytes(0);
    this.path = operation === 'write' ? PUT_PATH : RANGE_PATH;
    if (operation === 'write') this.#template = encodePut(key, Buffer.alloc(valueBytes, 'v'));
    else if (operation === 'read') this.#template = encodeRange(key, false);
    else this.#template = encodeRange(Buffer.from(`absent${'0'.repeat(KEY_DIGITS)}`), true);
    this.#keyAt = 2 + KEY_PREFIX.length;
  }

  /** Valid until the next call. */
  of(number: number): Buffer {
    let rest = number;
    for (let at = this.#keyAt + KEY_DIGITS - 1; at >= this.#keyAt; at--) {
      this.#template[at] = 48 + (rest % 10);
      rest = Math.floor(rest / 10);
    }
    return this.#template;
  }
}

/** Processor time of processes so far, s; those that ended count nothing. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /, '')
      .split(' ');
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / STAT_TICKS_PER_SECOND;
}

/** What all clients of one load share. */
interface Shared {
  requests: Requests;
  latenciesMs: number[];
  measuring: boolean;
  stopped: boolean;
  failed: number;
  error: Error | null;
  running: number;
  done: () => void;
  answerBytesMin: number;
}

/** A client: one request at a time, the next as soon as the answer is there. */
class Client implements Caller {
  readonly #connection: GrpcConnection;
  readonly #shared: Shared;
  #key: number;
  #began = 0;

  constructor(connection: GrpcConnection, shared: Shared, number: number) {
    this.#connection = connection;
    this.#shared = shared;
    this.#key = (number * 7919) % KEYS;
  }

  next(): void {
    // Visits every key, in an order that differs from client to client.
    this.#key = (this.#key + 7) % KEYS;
    this.#began = performance.now();
    this.#connection.call(this.#shared.requests.path, this.#shared.requests.of(this.#key), this);
  }

  answered(message: Buffer): void {
    const shared = this.#shared;
    if (shared.measuring) shared.latenciesMs.push(performance.now() - this.#began);
    if (message.length < shared.answerBytesMin) this.failed(new ShoalError('DataLoss', 'the value is not there'));
    else if (shared.stopped) this.#end();
    else this.next();
  }

  failed(error: Error): void {
    this.#shared.failed++;
    this.#shared.error ??= error;
    this.#shared.stopped = true;
    this.#end();
  }

  #end(): void {
    if (--this.#shared.running === 0) this.#shared.done();
  }
}

/** Quantile of sorted values, 0 without any. */
export function quantile(sorted: Float64Array | readonly number[], part: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0;
}

/**
 * `clients` callers, each with one request outstanding, for `warmMs` and then for the measured `measureMs`.
 * @throws ShoalError Unavailable when any request fails: the figures would mean nothing.
 */
export async function load(
  target: Target,
  operation: Operation,
  clients: number,
  warmMs: number,
  measureMs: number,
  signal?: AbortSignal,
): Promise<LoadResult> {
  const connections: GrpcConnection[] = [];
  for (let i = 0; i < Math.min(clients, CONNECTIONS_MAX); i++) {
    connections.push(await GrpcConnection.connect(target.host, target.port));
  }
  let done = (): void => undefined;
  const ended = new Promise<void>((resolve) => {
    done = resolve;
  });
  const shared: Shared = {
    requests: new Requests(operation),
    latenciesMs: [],
    measuring: false,
    stopped: false,
    failed: 0,
    error: null,
    running: clients,
    done,
    answerBytesMin: operation === 'read' ? VALUE_BYTES : 0,
  };
  try {
    for (let i = 0; i < clients; i++) {
      new Client(must(connections[i % connections.length], 'connection'), shared, i).next();
    }
    await systemClock.sleep(warmMs, signal);
    shared.measuring = true;
    const cpuBefore = process.cpuUsage();
    const membersBefore = cpuSeconds(target.pids);
    const began = performance.now();
    await systemClock.sleep(measureMs, signal);
    const seconds = (performance.now() - began) / 1000;
    const requests = shared.latenciesMs.length;
    shared.measuring = false;
    shared.stopped = true;
    const membersCpu = cpuSeconds(target.pids) - membersBefore;
    const { user, system } = process.cpuUsage(cpuBefore);
    await ended;
    if (shared.error !== null) throw new ShoalError('Unavailable', `a request failed: ${shared.error.message}`);
    const sorted = Float64Array.from(shared.latenciesMs).sort();
    return {
      perSecond: requests / seconds,
      p50Ms: quantile(sorted, 0.5),
      p99Ms: quantile(sorted, 0.99),
      maxMs: quantile(sorted, 1),
      requests,
      failed: shared.failed,
      generatorCpuUs: (user + system) / Math.max(1, requests),
      membersCpuUs: (membersCpu * 1e6) / Math.max(1, requests),
    };
  } finally {
    shared.stopped = true;
    for (const connection of connections) connection.close();
  }
}

/** Writes `count` values, at first one for each key, with 64 requests outstanding. */
export async function fill(target: Target, count = KEYS, valueBytes = VALUE_BYTES): Promise<void> {
  const connection = await GrpcConnection.connect(target.host, target.port);
  const requests = new Requests('write', valueBytes);
  let next = 0;
  const one = (): Promise<void> =>
    new Promise((resolve, reject) => {
      const step = (): void => {
        if (next >= count) resolve();
        else
          connection.call(requests.path, requests.of(next++ % KEYS), {
            answered: step,
            failed: reject,
          });
      };
      step();
    });
  try {
    await Promise.all(Array.from({ length: FILLERS }, one));
  } finally {
    connection.close();
  }
}

/** A write that is tried on a connection; false when it is refused. */
export function tryWrite(connection: GrpcConnection, number: number): Promise<boolean> {
  const requests = new Requests('write');
  return new Promise((resolve) => {
    connection.call(requests.path, requests.of(number % KEYS), {
      answered: () => resolve(true),
      failed: () => resolve(false),
    });
  });
}
