import { PortConfig_PublishMode, type GenericResource, type Resources, type Task } from '../proto/index.ts';

/** What a task reserves of its node. */
export interface Reservation {
  nanoCpus: number;
  memoryBytes: number;
  /** Units of each kind of generic resource. */
  generic: ReadonlyMap<string, number>;
}

const NO_GENERIC: ReadonlyMap<string, number> = new Map();
const NO_PORTS: readonly string[] = [];

function unitsByKind(resources: readonly GenericResource[]): ReadonlyMap<string, number> {
  if (resources.length === 0) return NO_GENERIC;
  const generic = new Map<string, number>();
  for (const resource of resources) {
    const [kind, units] = kindAndUnits(resource);
    if (units > 0) generic.set(kind, (generic.get(kind) ?? 0) + units);
  }
  return generic;
}

/** The reservation in a task's spec. Named generic resources in a spec count one unit each. */
export function reservationOf(task: Task): Reservation {
  const wanted = task.spec?.resources?.reservations;
  const generic = unitsByKind(wanted?.generic ?? []);
  return { nanoCpus: wanted?.nano_cpus ?? 0, memoryBytes: wanted?.memory_bytes ?? 0, generic };
}

function kindAndUnits(resource: GenericResource): [string, number] {
  const named = resource.named_resource_spec;
  if (named !== undefined) return [named.kind, 1];
  return [resource.discrete_resource_spec?.kind ?? '', resource.discrete_resource_spec?.value ?? 0];
}

const EVERYWHERE = new Set(['', '0.0.0.0', '::']);

/** Keys of the ports that a task publishes on its node itself: `0/80` on all addresses, `0/80@192.0.2.1` on one. */
export function hostPortsOf(task: Task): readonly string[] {
  const ports = task.endpoint?.ports;
  if (ports === undefined || ports.length === 0) return NO_PORTS;
  return ports
    .filter((port) => port.publish_mode === PortConfig_PublishMode.HOST && port.published_port !== 0)
    .map(({ protocol, published_port: number, host_ip: address }) => {
      return EVERYWHERE.has(address) ? `${protocol}/${number}` : `${protocol}/${number}@${address}`;
    });
}

/** Protocol and number of a port's key, without the address. */
export function portNumberOf(key: string): string {
  const at = key.indexOf('@');
  return at === -1 ? key : key.slice(0, at);
}

/** Whether two ports cannot be on one node: the same number on the same address, or on all addresses. */
export function portsClash(a: string, b: string): boolean {
  if (a === b) return true;
  return portNumberOf(a) === portNumberOf(b) && !(a.includes('@') && b.includes('@'));
}

/** Resources of a node, all of them or what is left. */
export interface FreeResources {
  readonly nanoCpus: number;
  readonly memoryBytes: number;
  /** Units of a kind of generic resource. */
  units(kind: string): number;
}

/** What a resource description amounts to, with nothing taken. */
export function totalOf(resources: Resources | null | undefined): FreeResources {
  const generic = unitsByKind(resources?.generic ?? []);
  return {
    nanoCpus: resources?.nano_cpus ?? 0,
    memoryBytes: resources?.memory_bytes ?? 0,
    units: (kind) => generic.get(kind) ?? 0,
  };
}

/** Units of one kind: a number, or a set of names. */
interface Pool {
  discrete: number;
  named: Set<string>;
}

/** What is left of a node's generic resources. May go below zero when a node has shrunk under its tasks. */
export class GenericPools {
  readonly #pools = new Map<string, Pool>();

  constructor(total: readonly GenericResource[]) {
    for (const resource of total) {
      const named = resource.named_resource_spec;
      if (named !== undefined) this.#pool(named.kind).named.add(named.value);
      const discrete = resource.discrete_resource_spec;
      if (discrete !== undefined) this.#pool(discrete.kind).discrete += discrete.value;
    }
  }

  units(kind: string): number {
    const pool = this.#pools.get(kind);
    return pool === undefined ? 0 : pool.named.size + pool.discrete;
  }

  #pool(kind: string): Pool {
    let pool = this.#pools.get(kind);
    if (pool === undefined) this.#pools.set(kind, (pool = { discrete: 0, named: new Set() }));
    return pool;
  }

  /** Which generic resources a task would get: names first, in their order, then numbers. Changes nothing. */
  choose(wanted: ReadonlyMap<string, number>): GenericResource[] {
    const chosen: GenericResource[] = [];
    for (const [kind, units] of wanted) {
      const names = [...(this.#pools.get(kind)?.named ?? [])].toSorted().slice(0, units);
      for (const value of names) chosen.push({ named_resource_spec: { kind, value } });
      const rest = units - names.length;
      if (rest > 0) chosen.push({ discrete_resource_spec: { kind, value: rest } });
    }
    return chosen;
  }

  take(resources: readonly GenericResource[]): void {
    for (const resource of resources) {
      const named = resource.named_resource_spec;
      if (named !== undefined) this.#pool(named.kind).named.delete(named.value);
      const discrete = resource.discrete_resource_spec;
      if (discrete !== undefined) this.#pool(discrete.kind).discrete -= discrete.value;
    }
  }
}
