import { alreadyExists, notFound, ShoalError } from '../../base/index.ts';
import {
  StoreActionKind,
  timestampFromMs,
  type MessageType,
  type Partially,
  type Service,
  type ServiceRevision,
  type Task,
} from '../../proto/index.ts';
import { versionOf, type Step } from './apply.ts';
import { encodeAction, encodeTaskCreation, encodeTaskUpdate, TYPES } from './codec.ts';
import { KINDS, nameOf, TableSet, UNIQUE_NAMES } from './tables.ts';
import { TemplateWriter } from './task-parts.ts';
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
  /** Place in the order in which the batch's objects were first touched. */
  place: number;
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
  readonly #changes = new Map<Kind, Map<string, Pending>>(KINDS.map((kind) => [kind, new Map<string, Pending>()]));
  readonly templates = new TemplateWriter();
  readonly provisionalVersion: number;
  /** Number of objects changed. */
  size = 0;
  #places = 0;
  /** Size of all encoded actions. */
  actionBytes = 0;

  /** @param index raft index of the newest entry that `base` holds. */
  constructor(base: TableSet, index: number) {
    this.base = base;
    this.provisionalVersion = PROVISIONAL_VERSION_BASE + index;
  }

  begin(nowMs: number): BatchTransaction {
    return new BatchTransaction(this, nowMs);
  }

  get isEmpty(): boolean {
    return this.size === 0;
  }

  /** Size of what is encoded so far. */
  get bytes(): number {
    return this.actionBytes + this.templates.bytes;
  }

  changesOf(kind: Kind): ReadonlyMap<string, Pending> {
    return this.#changes.get(kind) as Map<string, Pending>;
  }

  #inOrder(): Pending[] {
    const all: Pending[] = [];
    for (const changes of this.#changes.values()) {
      for (const change of changes.values()) if ((change.encoded?.length ?? 0) > 0) all.push(change);
    }
    return all.sort((a, b) => a.place - b.place);
  }

  /** Encoded actions in the order in which the objects were first touched. */
  encodedActions(): Uint8Array[] {
    return this.#inOrder().map((change) => change.encoded as Uint8Array);
  }

  /** The same actions as steps. Tasks are those that were written; other objects are copies, as if decoded. */
  steps(): Step[] {
    return this.#inOrder().map(({ kind, id, base, current }) => {
      const version = versionOf(base);
      if (current === undefined) {
        const action = StoreActionKind.STORE_ACTION_REMOVE;
        return { kind, action, id, version, object: base as Tables[Kind] };
      }
      const action = base === undefined ? StoreActionKind.STORE_ACTION_CREATE : StoreActionKind.STORE_ACTION_UPDATE;
      return { kind, action, id, version, object: kind === 'task' ? current : copyOf(kind, current) };
    });
  }

  /** Notes an object's new state; returns what was known of it before. */
  set<K extends Kind>(kind: K, id: string, current: Tables[K] | undefined): Pending | undefined {
    const changes = this.#changes.get(kind) as Map<string, Pending>;
    const previous = changes.get(id);
    const base = previous === undefined ? this.base.get(kind, id) : previous.base;
    if (previous === undefined) this.size++;
    const place = previous?.place ?? this.#places++;
    changes.set(id, { kind, id, place, base, current, encoded: previous?.encoded });
    if (current === undefined) this.pending.remove(kind, id);
    else this.pending.put(kind, current);
    return previous;
  }

  /** Puts back what was known of an object before a transaction touched it. */
  restore(kind: Kind, id: string, previous: Pending | undefined): void {
    const changes = this.#changes.get(kind) as Map<string, Pending>;
    if (previous !== undefined) changes.set(id, previous);
    else if (changes.delete(id)) this.size--;
    if (previous?.current === undefined) this.pending.remove(kind, id);
    else this.pending.put(kind, previous.current);
  }
}

/** One transaction of a batch: an overlay over the tables and over the former transactions' writes. */
export class BatchTransaction implements Transaction {
  readonly #batch: Batch;
  readonly #nowMs: number;
  /** Objects this transaction has touched, with what the batch knew of them before. */
  readonly #before = new Map<Kind, Map<string, Pending | undefined>>();
  #wrote = false;
  #open = true;

  constructor(batch: Batch, nowMs: number) {
    this.#batch = batch;
    this.#nowMs = nowMs;
  }

  /** Keeps the writes in the batch. @throws ShoalError ResourceExhausted when they are too many for an entry. */
  commit(): void {
    this.#open = false;
    const { templates } = this.#batch;
    const templatesBefore = templates.encoded.length;
    let bytes = -templates.bytes;
    const encoded: { change: Pending; data: Uint8Array }[] = [];
    for (const [kind, ids] of this.#before) {
      const changes = this.#batch.changesOf(kind);
      for (const id of ids.keys()) {
        const change = changes.get(id) as Pending;
        const data = encodeChange(change, templates);
        encoded.push({ change, data });
        bytes += data.length;
      }
    }
    bytes += templates.bytes;
    if (bytes > TRANSACTION_BYTES_MAX) {
      templates.truncate(templatesBefore);
      throw new ShoalError(
        'ResourceExhausted',
        `the change takes ${bytes} bytes, more than the ${TRANSACTION_BYTES_MAX} that one transaction ` +
          'may have; split it',
      );
    }
    for (const { change, data } of encoded) {
      this.#batch.actionBytes += data.length - (change.encoded?.length ?? 0);
      change.encoded = data;
    }
  }

  /** Takes all writes back. */
  rollback(): void {
    this.#open = false;
    for (const [kind, ids] of this.#before) {
      for (const [id, previous] of ids) this.#batch.restore(kind, id, previous);
    }
  }

  get wrote(): boolean {
    return this.#wrote;
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
    if (this.#before.get(kind)?.has(object.id) !== true && versionOf(object) !== versionOf(stored)) {
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
    this.#wrote = true;
    const previous = this.#batch.set(kind, id, current);
    let before = this.#before.get(kind);
    if (before === undefined) this.#before.set(kind, (before = new Map()));
    if (!before.has(id)) before.set(id, previous);
  }

  #merged<K extends Kind>(kind: K, query: (view: TableSet) => Tables[K][]): Tables[K][] {
    const base = query(this.#batch.base);
    const changes = this.#batch.changesOf(kind);
    if (changes.size === 0) return base;
    const untouched = base.filter((object) => !changes.has(object.id));
    return [...untouched, ...query(this.#batch.pending)];
  }

  get<K extends Kind>(kind: K, id: string): Tables[K] | undefined {
    const change = this.#batch.changesOf(kind).get(id);
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

/** A copy as it would come out of a log entry, bytes as Uint8Array and not as the encoder's Buffer. */
function copyOf<K extends Kind>(kind: K, object: Tables[Kind]): Tables[K] {
  const type = TYPES[kind] as MessageType<Tables[K]>;
  return type.decode(Uint8Array.from(type.encode(object as Partially<Tables[K]>)));
}

function encodeChange({ kind, base, current }: Pending, templates: TemplateWriter): Uint8Array {
  if (current === undefined) {
    if (base === undefined) return NOTHING;
    return encodeAction(kind, StoreActionKind.STORE_ACTION_REMOVE, base, versionOf(base));
  }
  if (kind === 'task') {
    if (base === undefined) return encodeTaskCreation(current as Task, templates);
    return encodeTaskUpdate(base as Task, current as Task, versionOf(base));
  }
  if (base === undefined) return encodeAction<Kind>(kind, StoreActionKind.STORE_ACTION_CREATE, current, 0);
  return encodeAction<Kind>(kind, StoreActionKind.STORE_ACTION_UPDATE, current, versionOf(base));
}
