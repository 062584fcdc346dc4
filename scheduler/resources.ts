import { PortConfig_PublishMode, type GenericResource, type Resources, type Task } from '../proto/index.ts';

/** What a task reserves of its node. */
export interface Reservation {
  nanoCpus: number;
  memoryBytes: number;
  /** Units of each kind of generic resource. */
  generic: ReadonlyMap<string, number>;
}

/** The reservation in a task's spec. Named generic resources in a spec count one unit each. */
export function reservationOf(task: Task): Reservation {
  const wanted = task.spec?.resources?.reservations;
  const generic = new Map<string, number>();
  for (const resource of wanted?.generic ?? []) {
    const [kind, units] = kindAndUnits(resource);
    if (units > 0) generic.set(kind, (generic.get(kind) ?? 0) + units);
  }
  return { nanoCpus: wanted?.nano_cpus ?? 0, memoryBytes: wanted?.memory_bytes ?? 0, generic };
}

function kindAndUnits(resource: GenericResource): [string, number] {
  const named = resource.named_resource_spec;
  if (named !== undefined) return [named.kind, 1];
  return [resource.discrete_resource_spec?.kind ?? '', resource.discrete_resource_spec?.value ?? 0];
}

/** `tcp/80`-like keys of the ports that a task publishes on its node itself. */
export function hostPortsOf(task: Task): string[] {
  return (task.endpoint?.ports ?? [])
    .filter((port) => port.publish_mode === PortConfig_PublishMode.HOST && port.published_port !== 0)
    .map((port) => `${port.protocol}/${port.published_port}`);
}

/** Units of one kind: a number, or a set of names. */
interface Pool {
  discrete: number;
  named: Set<string>;
}

/** What is left of a node's resources. May go below zero when a node has shrunk under its tasks. */
export class FreeResources {
  #nanoCpus: number;
  #memoryBytes: number;
  readonly #generic = new Map<string, Pool>();

  constructor(total: Resources | null | undefined) {
    this.#nanoCpus = total?.nano_cpus ?? 0;
    this.#memoryBytes = total?.memory_bytes ?? 0;
    for (const resource of total?.generic ?? []) {
      const named = resource.named_resource_spec;
      if (named !== undefined) this.#pool(named.kind).named.add(named.value);
      const discrete = resource.discrete_resource_spec;
      if (discrete !== undefined) this.#pool(discrete.kind).discrete += discrete.value;
    }
  }

  get nanoCpus(): number {
    return this.#nanoCpus;
  }

  get memoryBytes(): number {
    return this.#memoryBytes;
  }

  /** Units of a kind of generic resource. */
  units(kind: string): number {
    const pool = this.#generic.get(kind);
    return pool === undefined ? 0 : pool.named.size + pool.discrete;
  }

  #pool(kind: string): Pool {
    let pool = this.#generic.get(kind);
    if (pool === undefined) this.#generic.set(kind, (pool = { discrete: 0, named: new Set() }));
    return pool;
  }

  has(wanted: Reservation): boolean {
    if (wanted.nanoCpus > 0 && wanted.nanoCpus > this.#nanoCpus) return false;
    if (wanted.memoryBytes > 0 && wanted.memoryBytes > this.#memoryBytes) return false;
    for (const [kind, units] of wanted.generic) if (units > this.units(kind)) return false;
    return true;
  }

  /** Which generic resources a task would get: names first, in their order, then numbers. Changes nothing. */
  choose(wanted: Reservation): GenericResource[] {
    const chosen: GenericResource[] = [];
    for (const [kind, units] of wanted.generic) {
      const names = [...(this.#generic.get(kind)?.named ?? [])].toSorted().slice(0, units);
      for (const value of names) chosen.push({ named_resource_spec: { kind, value } });
      const rest = units - names.length;
      if (rest > 0) chosen.push({ discrete_resource_spec: { kind, value: rest } });
    }
    return chosen;
  }

  take(reservation: Reservation, generic: readonly GenericResource[]): void {
    this.#nanoCpus -= reservation.nanoCpus;
    this.#memoryBytes -= reservation.memoryBytes;
    for (const resource of generic) {
      const named = resource.named_resource_spec;
      if (named !== undefined) this.#pool(named.kind).named.delete(named.value);
      const discrete = resource.discrete_resource_spec;
      if (discrete !== undefined) this.#pool(discrete.kind).discrete -= discrete.value;
    }
  }
}
