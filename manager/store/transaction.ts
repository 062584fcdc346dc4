import { alreadyExists, notFound, ShoalError } from '../../base/index.ts';
import { StoreActionKind, timestampFromMs, type Service, type ServiceRevision, type Task } from '../../proto/index.ts';
import { versionOf } from './apply.ts';
import { encodeAction } from './codec.ts';
import { nameOf, TableSet, UNIQUE_NAMES } from './tables.ts';
import type { Kind, Tables, Transaction } from './types.ts';

/** Encoded size that one transaction may have, bytes. */
export const TRANSACTION_BYTES_MAX = 2 * 1024 * 1024;

/**
 * Versions of objects that a batch has changed but not committed: above every raft index, so that no request that names
 * the version it has read can match one; and different for each batch, so that a copy kept elsewhere (spec_version)
 * stays unique.
 */
const PROVISIONAL_VERSION_BASE = 2 ** 52;

interface Pending {
  kind: Kind;
  id: string;
  base: Tables[Kind] | undefined;
  current: Tables[Kind] | undefined;
  /** Encoded action; empty when the changes cancel out. */
  encoded: Uint8Array | undefined;
}

const NOTHING = new Uint8Array(0);

/** Changes of several transactions that go into one raft entry; each sees those of the former. */
export class Batch {
  readonly base: TableSet;
  readonly pending = new TableSet();
  readonly changes = new Map<string, Pending>();
  readonly provisionalVersion: number;
  /** Size of all encoded actions. */
  bytes = 0;

  /** @param index raft index of the newest entry that `base` holds. */
  constructor(base: TableSet, index: number) {
    this.base = base;
    this.provisionalVersion = PROVISIONAL_VERSION_BASE + index;
  }

  begin(nowMs: number): BatchTransaction {
    return new BatchTransaction(this, nowMs);
  }

  get isEmpty(): boolean {
    return this.changes.size === 0;
  }

  /** Encoded actions in the order in which the objects were first touched. */
  actions(): Uint8Array[] {
    const encoded: Uint8Array[] = [];
    for (const change of this.changes.values()) {
      if (change.encoded !== undefined && change.encoded.length > 0) encoded.push(change.encoded);
    }
    return encoded;
  }

  /** Puts back what was known of an object before a transaction touched it. */
  restore(key: string, kind: Kind, id: string, previous: Pending | undefined): void {
    if (previous === undefined) this.changes.delete(key);
    else this.changes.set(key, previous);
    if (previous?.current === undefined) this.pending.remove(kind, id);
    else this.pending.put(kind, previous.current);
  }
}

/** One transaction of a batch: an overlay over the tables and over the former transactions' writes. */
export class BatchTransaction implements Transaction {
  readonly #batch: Batch;
  readonly #nowMs: number;
  /** Objects this transaction has touched, with what the batch knew of them before. */
  readonly #before = new Map<string, { kind: Kind; id: string; previous: Pending | undefined }>();
  #open = true;

  constructor(batch: Batch, nowMs: number) {
    this.#batch = batch;
    this.#nowMs = nowMs;
  }

  /** Keeps the writes in the batch. @throws ShoalError ResourceExhausted when they are too many for an entry. */
  commit(): void {
    this.#open = false;
    let bytes = 0;
    const encoded = new Map<Pending, Uint8Array>();
    for (const key of this.#before.keys()) {
      const change = this.#batch.changes.get(key) as Pending;
      const data = encodeChange(change);
      encoded.set(change, data);
      bytes += data.length;
    }
    if (bytes > TRANSACTION_BYTES_MAX) {
      throw new ShoalError(
        'ResourceExhausted',
        `the change takes ${bytes} bytes, more than the ${TRANSACTION_BYTES_MAX} that one transaction ` +
          'may have; split it',
      );
    }
    for (const [change, data] of encoded) {
      this.#batch.bytes += data.length - (change.encoded?.length ?? 0);
      change.encoded = data;
    }
  }

  /** Takes all writes back. */
  rollback(): void {
    this.#open = false;
    for (const [key, { kind, id, previous }] of this.#before) this.#batch.restore(key, kind, id, previous);
  }

  get wrote(): boolean {
    return this.#before.size > 0;
  }

  create<K extends Kind>(kind: K, object: Tables[K]): void {
    if (this.get(kind, object.id) !== undefined) throw alreadyExists(`${kind} ${object.id} already exists`);
    this.#checkName(kind, object);
    const now = timestampFromMs(this.#nowMs);
    const version = { index: this.#batch.provisionalVersion };
    this.#write(kind, object.id, { ...object, meta: { version, created_at: now, updated_at: now } });
  }

  update<K extends Kind>(kind: K, object: Tables[K]): void {
    const stored = this.get(kind, object.id);
    if (stored === undefined) throw notFound(`${kind} ${object.id} not found`);
    // A second write of the same transaction has seen everything: `run` is synchronous.
    if (!this.#before.has(`${kind}/${object.id}`) && versionOf(object) !== versionOf(stored)) {
      throw new ShoalError('Unknown', 'update out of sequence');
    }
    this.#checkName(kind, object);
    const version = { index: this.#batch.provisionalVersion };
    const updated_at = timestampFromMs(this.#nowMs);
    this.#write(kind, object.id, {
      ...object,
      meta: { version, created_at: stored.meta?.created_at ?? null, updated_at },
    });
  }

  remove(kind: Kind, id: string): void {
    if (this.get(kind, id) === undefined) throw notFound(`${kind} ${id} not found`);
    this.#write(kind, id, undefined);
  }

  #checkName<K extends Kind>(kind: K, object: Tables[K]): void {
    const name = nameOf(kind, object);
    if (!UNIQUE_NAMES.has(kind) || name === '') return;
    const others = this.#merged(kind, (view) => view.named(kind, name));
    if (others.some((other) => other.id !== object.id)) {
      throw alreadyExists(`name conflicts with an existing object: ${kind} ${name} already exists`);
    }
  }

  #write<K extends Kind>(kind: K, id: string, current: Tables[K] | undefined): void {
    if (!this.#open) throw new ShoalError('Internal', 'a transaction is written only while its callback runs');
    const key = `${kind}/${id}`;
    const previous = this.#batch.changes.get(key);
    if (!this.#before.has(key)) this.#before.set(key, { kind, id, previous });
    const base = previous === undefined ? this.#batch.base.get(kind, id) : previous.base;
    // Map.set keeps the place of a key that exists, so the order is that of first touch.
    this.#batch.changes.set(key, { kind, id, base, current, encoded: previous?.encoded });
    if (current === undefined) this.#batch.pending.remove(kind, id);
    else this.#batch.pending.put(kind, current);
  }

  #merged<K extends Kind>(kind: K, query: (view: TableSet) => Tables[K][]): Tables[K][] {
    const base = query(this.#batch.base);
    if (this.#batch.isEmpty) return base;
    const untouched = base.filter((object) => !this.#batch.changes.has(`${kind}/${object.id}`));
    return [...untouched, ...query(this.#batch.pending)];
  }

  get<K extends Kind>(kind: K, id: string): Tables[K] | undefined {
    const change = this.#batch.changes.get(`${kind}/${id}`);
    return change === undefined ? this.#batch.base.get(kind, id) : (change.current as Tables[K] | undefined);
  }

  list<K extends Kind>(kind: K): Tables[K][] {
    return this.#merged(kind, (view) => view.list(kind));
  }

  byName<K extends Kind>(kind: K, name: string): Tables[K] | undefined {
    return this.#merged(kind, (view) => view.named(kind, name))[0];
  }

  byIdPrefix<K extends Kind>(kind: K, prefix: string): Tables[K][] {
    return this.#merged(kind, (view) => view.byIdPrefix(kind, prefix));
  }

  tasksByService(serviceId: string): Task[] {
    return this.#merged('task', (view) => view.tasksByService(serviceId));
  }

  tasksByNode(nodeId: string): Task[] {
    return this.#merged('task', (view) => view.tasksByNode(nodeId));
  }

  revisionsByService(serviceId: string): ServiceRevision[] {
    const found = this.#merged('revision', (view) => view.revisionsByService(serviceId));
    return found.toSorted((a, b) => a.number - b.number);
  }

  tasksBySlot(serviceId: string, slot: number): Task[] {
    return this.#merged('task', (view) => view.tasksBySlot(serviceId, slot));
  }

  servicesByNetwork(networkId: string): Service[] {
    return this.#merged('service', (view) => view.servicesByNetwork(networkId));
  }

  servicesBySecret(secretId: string): Service[] {
    return this.#merged('service', (view) => view.servicesBySecret(secretId));
  }

  servicesByConfig(configId: string): Service[] {
    return this.#merged('service', (view) => view.servicesByConfig(configId));
  }
}

function encodeChange({ kind, base, current }: Pending): Uint8Array {
  if (current === undefined) {
    if (base === undefined) return NOTHING;
    return encodeAction(kind, StoreActionKind.STORE_ACTION_REMOVE, base, versionOf(base));
  }
  if (base === undefined) return encodeAction(kind, StoreActionKind.STORE_ACTION_CREATE, current, 0);
  return encodeAction(kind, StoreActionKind.STORE_ACTION_UPDATE, current, versionOf(base));
}
