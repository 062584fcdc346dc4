import type { Config, Network, Node, Secret, Service, ServiceRevision, Task } from '../../proto/index.ts';
import type { Kind, ReadView, Tables } from './types.ts';

/** Every kind, in the order of snapshots and hashes. */
export const KINDS: readonly Kind[] = ['cluster', 'node', 'service', 'network', 'task', 'secret', 'config', 'revision'];

/** Kinds in which no two objects may have the same name. */
export const UNIQUE_NAMES: ReadonlySet<Kind> = new Set<Kind>(['cluster', 'service', 'network', 'secret', 'config']);

/** Characters of an id that pick its bucket; ids are random base 36, so buckets stay even. */
const PREFIX_BUCKET_CHARS = 2;

/** The name an object is found by; the empty string when it has none. */
export function nameOf<K extends Kind>(kind: K, object: Tables[K]): string {
  if (kind === 'node') return (object as Node).description?.hostname ?? '';
  if (kind === 'task') return (object as Task).annotations?.name ?? '';
  if (kind === 'revision') return '';
  return (object as Service | Network | Secret | Config).spec?.annotations?.name ?? '';
}

function networksOf(service: Service): string[] {
  return [...(service.spec?.task?.networks ?? []), ...(service.spec?.networks ?? [])].map((one) => one.target);
}

function secretsOf(service: Service): string[] {
  return (service.spec?.task?.container?.secrets ?? []).map((one) => one.secret_id);
}

function configsOf(service: Service): string[] {
  const container = service.spec?.task?.container;
  const ids = (container?.configs ?? []).map((one) => one.config_id);
  const credential = container?.privileges?.credential_spec?.config;
  return credential === undefined || credential === '' ? ids : [...ids, credential];
}

type KeysOf<T> = (object: T) => string[];
type IndexName = 'service' | 'node' | 'slot' | 'network' | 'secret' | 'config';

const INDEXES: { readonly [K in Kind]?: Partial<Record<IndexName, KeysOf<Tables[K]>>> } = {
  task: {
    service: (task) => [task.service_id],
    node: (task) => [task.node_id],
    slot: (task) => [slotKey(task.service_id, task.slot)],
  },
  service: { network: networksOf, secret: secretsOf, config: configsOf },
  revision: { service: (revision) => [revision.service_id] },
};

function slotKey(serviceId: string, slot: number): string {
  return `${serviceId}/${slot}`;
}

/** Sets of ids by key. A key with one id, as most have, costs no set. */
class KeyIndex {
  readonly #ids = new Map<string, string | Set<string>>();

  add(key: string, id: string): void {
    const held = this.#ids.get(key);
    if (held === undefined) this.#ids.set(key, id);
    else if (typeof held !== 'string') held.add(id);
    else if (held !== id) this.#ids.set(key, new Set([held, id]));
  }

  remove(key: string, id: string): void {
    const held = this.#ids.get(key);
    if (held === undefined) return;
    if (typeof held === 'string') {
      if (held === id) this.#ids.delete(key);
    } else if (held.delete(id) && held.size === 0) {
      this.#ids.delete(key);
    }
  }

  get(key: string): Iterable<string> | undefined {
    const held = this.#ids.get(key);
    return typeof held === 'string' ? [held] : held;
  }
}

/** Whether a task is found under the same keys as before: nearly always, since most updates tell of a new state. */
function sameTaskKeys(a: Task, b: Task): boolean {
  return (
    a.node_id === b.node_id &&
    a.service_id === b.service_id &&
    a.slot === b.slot &&
    (a.annotations === b.annotations || nameOf('task', a) === nameOf('task', b))
  );
}

function sameKeys(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((key, i) => key === b[i]);
}

interface Index<T> {
  keysOf: KeysOf<T>;
  /** Undefined until somebody asks: a follower asks for next to nothing, and most tasks are never looked up by name. */
  ids: KeyIndex | undefined;
}

/** The objects of one kind with their indexes, each made when it is first asked for and kept up from then on. */
class Table<K extends Kind> {
  readonly objects = new Map<string, Tables[K]>();
  readonly #indexes = new Map<string, Index<Tables[K]>>();

  /** A quick test that an object's keys are what they were. */
  readonly #sameKeys: ((a: Tables[K], b: Tables[K]) => boolean) | undefined;

  constructor(kind: K) {
    this.#sameKeys = kind === 'task' ? (sameTaskKeys as (a: Tables[K], b: Tables[K]) => boolean) : undefined;
    this.#index('name', (object) => [nameOf(kind, object)]);
    this.#index('prefix', (object) => [object.id.slice(0, PREFIX_BUCKET_CHARS)]);
    const extra = INDEXES[kind] as Record<string, KeysOf<Tables[K]>> | undefined;
    for (const [name, keysOf] of Object.entries(extra ?? {})) this.#index(name, keysOf);
  }

  #index(name: string, keysOf: KeysOf<Tables[K]>): void {
    this.#indexes.set(name, { keysOf, ids: undefined });
  }

  put(object: Tables[K]): void {
    const old = this.objects.get(object.id);
    this.objects.set(object.id, object);
    if (old !== undefined && this.#sameKeys?.(old, object) === true) return;
    for (const { keysOf, ids } of this.#indexes.values()) {
      if (ids === undefined) continue;
      const before = old === undefined ? [] : keysOf(old);
      const after = keysOf(object);
      if (sameKeys(before, after)) continue;
      for (const key of before) ids.remove(key, object.id);
      for (const key of after) ids.add(key, object.id);
    }
  }

  remove(id: string): void {
    const old = this.objects.get(id);
    if (old === undefined) return;
    this.objects.delete(id);
    for (const { keysOf, ids } of this.#indexes.values()) {
      if (ids !== undefined) for (const key of keysOf(old)) ids.remove(key, id);
    }
  }

  find(name: IndexName | 'name' | 'prefix', key: string): Tables[K][] {
    const index = this.#indexes.get(name);
    if (index === undefined) return [];
    const found: Tables[K][] = [];
    for (const id of (index.ids ??= this.#built(index)).get(key) ?? []) found.push(this.objects.get(id) as Tables[K]);
    return found;
  }

  #built({ keysOf }: Index<Tables[K]>): KeyIndex {
    const ids = new KeyIndex();
    for (const object of this.objects.values()) for (const key of keysOf(object)) ids.add(key, object.id);
    return ids;
  }
}

/** All tables of a store, as plain maps with indexes. Knows no transactions: see apply.ts and transaction.ts. */
export class TableSet implements ReadView {
  readonly #tables: { [K in Kind]: Table<K> } = {
    cluster: new Table('cluster'),
    node: new Table('node'),
    service: new Table('service'),
    task: new Table('task'),
    network: new Table('network'),
    secret: new Table('secret'),
    config: new Table('config'),
    revision: new Table('revision'),
  };

  #table<K extends Kind>(kind: K): Table<K> {
    return this.#tables[kind];
  }

  /** Adds or replaces an object. */
  put<K extends Kind>(kind: K, object: Tables[K]): void {
    this.#table(kind).put(object);
  }

  remove(kind: Kind, id: string): void {
    this.#table(kind).remove(id);
  }

  size(kind: Kind): number {
    return this.#table(kind).objects.size;
  }

  get<K extends Kind>(kind: K, id: string): Tables[K] | undefined {
    return this.#table(kind).objects.get(id);
  }

  list<K extends Kind>(kind: K): Tables[K][] {
    return [...this.#table(kind).objects.values()];
  }

  /** All objects of a name; several for nodes and tasks only. */
  named<K extends Kind>(kind: K, name: string): Tables[K][] {
    return name === '' ? [] : this.#table(kind).find('name', name);
  }

  byName<K extends Kind>(kind: K, name: string): Tables[K] | undefined {
    return this.named(kind, name)[0];
  }

  byIdPrefix<K extends Kind>(kind: K, prefix: string): Tables[K][] {
    const candidates =
      prefix.length < PREFIX_BUCKET_CHARS
        ? this.list(kind)
        : this.#table(kind).find('prefix', prefix.slice(0, PREFIX_BUCKET_CHARS));
    return candidates.filter((object) => object.id.startsWith(prefix)).toSorted((a, b) => (a.id < b.id ? -1 : 1));
  }

  tasksByService(serviceId: string): Task[] {
    return this.#tables.task.find('service', serviceId);
  }

  tasksByNode(nodeId: string): Task[] {
    return this.#tables.task.find('node', nodeId);
  }

  tasksBySlot(serviceId: string, slot: number): Task[] {
    return this.#tables.task.find('slot', slotKey(serviceId, slot));
  }

  revisionsByService(serviceId: string): ServiceRevision[] {
    return this.#tables.revision.find('service', serviceId).toSorted((a, b) => a.number - b.number);
  }

  servicesByNetwork(networkId: string): Service[] {
    return this.#tables.service.find('network', networkId);
  }

  servicesBySecret(secretId: string): Service[] {
    return this.#tables.service.find('secret', secretId);
  }

  servicesByConfig(configId: string): Service[] {
    return this.#tables.service.find('config', configId);
  }
}
