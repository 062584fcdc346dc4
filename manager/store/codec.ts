import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import {
  Cluster,
  Config,
  fieldTag,
  InternalRaftRequest,
  joinParts,
  Network,
  Node,
  Secret,
  Service,
  ServiceRevision,
  Snapshot,
  Snapshot_Version,
  StoreAction,
  StoreActionKind,
  Task,
  TaskTemplate,
  type MessageType,
  type Partially,
  type StoreSnapshot,
} from '../../proto/index.ts';
import { KINDS, TableSet } from './tables.ts';
import { completeTask, patchOf, TemplateWriter, withoutTemplate } from './task-parts.ts';
import type { Kind, Tables } from './types.ts';

/** The codec of each kind. */
export const TYPES: { readonly [K in Kind]: MessageType<Tables[K]> } = {
  cluster: Cluster,
  node: Node,
  service: Service,
  network: Network,
  task: Task,
  secret: Secret,
  config: Config,
  revision: ServiceRevision,
};

/** A deep copy of an object that may then be changed. */
export function cloneObject<K extends Kind>(kind: K, object: Tables[K]): Tables[K] {
  return (TYPES[kind] as MessageType<Tables[K]>).clone(object);
}

/** The encoded action that brings an object to its new state. `baseVersion` is the version its proposer saw. */
export function encodeAction<K extends Kind>(
  kind: K,
  action: StoreActionKind,
  object: Tables[K],
  baseVersion: number,
): Uint8Array {
  const versioned =
    action === StoreActionKind.STORE_ACTION_REMOVE
      ? { id: object.id, meta: { version: { index: baseVersion } } }
      : { ...object, meta: { ...object.meta, version: { index: baseVersion } } };
  return StoreAction.encode({ action, [kind]: versioned });
}

/** The encoded action that creates a task; what it has in common with others goes into `templates`. */
export function encodeTaskCreation(task: Task, templates: TemplateWriter): Uint8Array {
  const number = templates.numberOf(task);
  const versioned = { ...task, meta: task.meta === null ? null : { ...task.meta, version: null } };
  return StoreAction.encode({
    action: StoreActionKind.STORE_ACTION_CREATE,
    task: number === 0 ? versioned : withoutTemplate(versioned),
    task_template: number,
  });
}

/** The encoded action that updates a task: only what changes, when that is little. */
export function encodeTaskUpdate(base: Task, current: Task, baseVersion: number): Uint8Array {
  const action = StoreActionKind.STORE_ACTION_UPDATE;
  const task_patch = patchOf(base, current, baseVersion);
  if (task_patch === undefined) return encodeAction('task', action, current, baseVersion);
  return StoreAction.encode({ action, task_patch });
}

/** Tags of `InternalRaftRequest.action` and `.task_templates`. */
const ACTION_TAG = fieldTag(2);
const TEMPLATES_TAG = fieldTag(1001);

/** A log entry's data from parts that are encoded already, so that no object is encoded twice. */
export function encodeRequest(
  id: number,
  actions: readonly Uint8Array[],
  templates: readonly Uint8Array[] = [],
): Uint8Array {
  const head = InternalRaftRequest.encode({ id });
  return joinParts([
    head,
    ...actions.map((bytes) => ({ tag: ACTION_TAG, bytes })),
    ...templates.map((bytes) => ({ tag: TEMPLATES_TAG, bytes })),
  ]);
}

/** The request of a log entry, its tasks complete. @throws Error when the data is none. */
export function decodeRequest(data: Uint8Array): InternalRaftRequest {
  const request = InternalRaftRequest.decode(data);
  for (const { task, task_template: number } of request.action) {
    if (task !== undefined) completeTask(task, request.task_templates, number);
  }
  return request;
}

/** The id of a log entry's request, read without the rest; 0 when it has none. */
export function requestIdOf(data: Uint8Array): number {
  if (data[0] !== 0x08) return 0;
  let id = 0;
  let factor = 1;
  for (let at = 1; at < Math.min(data.length, 9); at++) {
    const byte = data[at] as number;
    id += (byte & 0x7f) * factor;
    if (byte < 0x80) return id;
    factor *= 128;
  }
  return 0;
}

function sorted<K extends Kind>(tables: TableSet, kind: K): Tables[K][] {
  return tables.list(kind).toSorted((a, b) => (a.id < b.id ? -1 : 1));
}

/** The whole state as a `Snapshot` message, objects in the order of their ids. */
export function encodeSnapshot(tables: TableSet): Uint8Array {
  const templates = new TemplateWriter();
  const numbers: number[] = [];
  const tasks = sorted(tables, 'task').map((task) => {
    const number = templates.numberOf(task);
    numbers.push(number);
    return number === 0 ? task : withoutTemplate(task);
  });
  const store: Partially<StoreSnapshot> = {
    nodes: sorted(tables, 'node'),
    services: sorted(tables, 'service'),
    networks: sorted(tables, 'network'),
    tasks,
    clusters: sorted(tables, 'cluster'),
    secrets: sorted(tables, 'secret'),
    configs: sorted(tables, 'config'),
    task_templates: templates.encoded.map((bytes) => TaskTemplate.decode(bytes)),
    task_template_numbers: numbers,
    revisions: sorted(tables, 'revision'),
  };
  return Snapshot.encode({ version: Snapshot_Version.V0, store });
}

/** Tables from the bytes of `encodeSnapshot`. @throws Error when they are no snapshot. */
export function decodeSnapshot(data: Uint8Array): TableSet {
  const tables = new TableSet();
  const store = Snapshot.decode(data).store;
  if (store === null) return tables;
  for (const node of store.nodes) tables.put('node', node);
  for (const service of store.services) tables.put('service', service);
  for (const network of store.networks) tables.put('network', network);
  for (const [i, task] of store.tasks.entries()) {
    completeTask(task, store.task_templates, store.task_template_numbers[i] ?? 0);
    tables.put('task', task);
  }
  for (const cluster of store.clusters) tables.put('cluster', cluster);
  for (const secret of store.secrets) tables.put('secret', secret);
  for (const config of store.configs) tables.put('config', config);
  for (const revision of store.revisions) tables.put('revision', revision);
  return tables;
}

/** SHA-256 (hex) over every object in the order of kind and id; equal exactly when two replicas hold the same. */
export function hashTables(tables: TableSet): string {
  const hash = sha256.create();
  for (const kind of KINDS) {
    for (const object of sorted(tables, kind)) {
      const bytes = (TYPES[kind] as MessageType<Tables[Kind]>).encode(object);
      hash.update(new TextEncoder().encode(`${kind}/${object.id}/${bytes.length}\n`));
      hash.update(bytes);
    }
  }
  return bytesToHex(hash.digest());
}
