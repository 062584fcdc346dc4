/** The names of one overlay, at the cost of what changes in its table. No I/O. */
import type { NetworkTable } from '../../proto/index.ts';
import { canonicalIp } from '../ip.ts';
import {
  emptyZone,
  FIELD,
  items,
  LINE,
  readPort,
  zoneText,
  type ServiceFacts,
  type ServicePort,
  type Zone,
} from './zone.ts';

interface TaskNames {
  id: string;
  /** `name.network`, lower case; empty when the task has no name. */
  target: string;
  /** Its name and aliases, lower case. */
  names: string[];
  service: string;
  serving: boolean;
  weight: number;
  addresses: string[];
}

interface ServiceNames {
  id: string;
  target: string;
  /** Its name and aliases, lower case. */
  names: string[];
  virtual: string[];
  ports: ServicePort[];
}

/** Who claims a key; mostly one, so that one alone is kept without a set. */
class Claims<T extends { id: string }> {
  readonly #by = new Map<string, T | Map<string, T>>();

  add(key: string, one: T): void {
    const known = this.#by.get(key);
    if (known === undefined) this.#by.set(key, one);
    else if (known instanceof Map) known.set(one.id, one);
    else if (known.id === one.id) this.#by.set(key, one);
    else this.#by.set(key, new Map([[known.id, known], [one.id, one]])); // prettier-ignore
  }

  drop(key: string, one: T): void {
    const known = this.#by.get(key);
    if (known instanceof Map) {
      known.delete(one.id);
      if (known.size === 0) this.#by.delete(key);
    } else if (known?.id === one.id) this.#by.delete(key);
  }

  all(key: string): T[] {
    const known = this.#by.get(key);
    return known === undefined ? [] : known instanceof Map ? [...known.values()] : [known];
  }

  /** The one that counts: whatever the order in which they came, that with the greatest id. */
  winner(key: string): T | undefined {
    const known = this.#by.get(key);
    if (known === undefined || !(known instanceof Map)) return known;
    let best: T | undefined;
    for (const one of known.values()) if (best === undefined || one.id > best.id) best = one;
    return best;
  }
}

/**
 * The zone of an overlay: services by virtual address (or by tasks), `tasks.` names, tasks, reverse names. It is told
 * of endpoints and services line by line; whatever the sequence, it is a function of those that are left.
 */
export class LiveZone {
  /** Changed in place by `read`. */
  readonly zone: Zone;
  readonly #tasks = new Map<string, TaskNames>();
  readonly #services = new Map<string, ServiceNames>();
  readonly #taskNames = new Claims<TaskNames>();
  readonly #taskAddresses = new Claims<TaskNames>();
  readonly #serviceNames = new Claims<ServiceNames>();
  readonly #serviceAddresses = new Claims<ServiceNames>();
  /** Tasks that serve, by service and task. */
  readonly #serving = new Map<string, Map<string, TaskNames>>();
  #touched = { names: new Set<string>(), addresses: new Set<string>(), services: new Set<string>() };

  constructor(network: string) {
    this.zone = emptyZone(network);
  }

  /** Takes a piece of `zoneText` or `changeText`. */
  read(text: string): void {
    for (const line of text.split(LINE)) {
      const fields = line.split(FIELD);
      const id = fields[1] ?? '';
      if (line.startsWith('E') || line.startsWith('e')) this.#dropTask(id);
      if (line.startsWith('S') || line.startsWith('s')) this.#dropService(id);
      if (line.startsWith('E')) this.#addTask(this.#taskOf(fields));
      else if (line.startsWith('S')) this.#addService(this.#serviceOf(fields));
    }
    this.#settle();
  }

  #namesOf(name: string, aliases: string): { target: string; names: string[] } {
    const target = name === '' ? '' : `${name.toLowerCase()}.${this.zone.network}`;
    return { target, names: [name, ...items(aliases)].filter((one) => one !== '').map((one) => one.toLowerCase()) };
  }

  #taskOf(fields: readonly string[]): TaskNames {
    const [, id = '', name = '', service = '', aliases = '', serves, weight, ...given] = fields;
    const addresses = given.map(canonicalIp).filter((ip) => ip !== '');
    return {
      id,
      ...this.#namesOf(name, aliases),
      service,
      serving: serves === '1',
      weight: Number(weight) || 1,
      addresses,
    };
  }

  #serviceOf(fields: readonly string[]): ServiceNames {
    const [, id = '', name = '', aliases = '', vip = '', vip6 = '', ports = ''] = fields;
    const virtual = [canonicalIp(vip), canonicalIp(vip6)].filter((address) => address !== '');
    return { id, ...this.#namesOf(name, aliases), virtual, ports: items(ports).map(readPort) };
  }

  #addTask(task: TaskNames): void {
    this.#tasks.set(task.id, task);
    this.#touchTask(task);
    for (const name of task.names) this.#taskNames.add(name, task);
    if (task.target !== '') for (const ip of task.addresses) this.#taskAddresses.add(ip, task);
    if (!task.serving || task.addresses.length === 0) return;
    let serving = this.#serving.get(task.service);
    if (serving === undefined) this.#serving.set(task.service, (serving = new Map()));
    serving.set(task.id, task);
  }

  #dropTask(id: string): void {
    const task = this.#tasks.get(id);
    if (task === undefined) return;
    this.#tasks.delete(id);
    this.#touchTask(task);
    for (const name of task.names) this.#taskNames.drop(name, task);
    for (const ip of task.addresses) this.#taskAddresses.drop(ip, task);
    const serving = this.#serving.get(task.service);
    serving?.delete(id);
    if (serving?.size === 0) this.#serving.delete(task.service);
  }

  #touchTask(task: TaskNames): void {
    for (const name of task.names) this.#touched.names.add(name);
    for (const ip of task.addresses) this.#touched.addresses.add(ip);
    this.#touched.services.add(task.service);
  }

  #addService(service: ServiceNames): void {
    this.#services.set(service.id, service);
    this.#touchService(service);
    for (const name of service.names) this.#serviceNames.add(name, service);
    if (service.target !== '') for (const ip of service.virtual) this.#serviceAddresses.add(ip, service);
  }

  #dropService(id: string): void {
    const service = this.#services.get(id);
    if (service === undefined) return;
    this.#services.delete(id);
    this.#touchService(service);
    for (const name of service.names) this.#serviceNames.drop(name, service);
    for (const ip of service.virtual) this.#serviceAddresses.drop(ip, service);
  }

  #touchService(service: ServiceNames): void {
    for (const name of service.names) this.#touched.names.add(name);
    for (const ip of service.virtual) this.#touched.addresses.add(ip);
  }

  /** Writes the zone anew where something changed. */
  #settle(): void {
    const { names, addresses, services } = this.#touched;
    this.#touched = { names: new Set(), addresses: new Set(), services: new Set() };
    for (const id of services) for (const name of this.#services.get(id)?.names ?? []) names.add(name);
    for (const name of names) this.#settleName(name);
    for (const ip of addresses) {
      // A virtual address means the service.
      const known = this.#serviceAddresses.winner(ip) ?? this.#taskAddresses.winner(ip);
      if (known === undefined) this.zone.names.delete(ip);
      else this.zone.names.set(ip, known.target);
    }
  }

  #settleName(name: string): void {
    const { zone } = this;
    // A service's name and aliases mean the service, whatever its tasks call themselves.
    const service = this.#serviceNames.winner(name);
    if (service !== undefined) {
      const facts = this.#factsOf(service);
      const serving = this.#addressesOf(service.id);
      zone.addresses.set(name, facts.virtual ? service.virtual : serving);
      zone.addresses.set(`tasks.${name}`, serving);
      zone.services.set(name, facts);
      return;
    }
    if (zone.services.delete(name)) zone.addresses.delete(`tasks.${name}`);
    const tasks = this.#taskNames.all(name);
    // A task that does not serve (yet, or any more) is known, so that nobody else is asked for it.
    const known = tasks.some((task) => task.serving || (task.target !== '' && task.names[0] === name));
    const serving = tasks.filter((task) => task.serving).flatMap((task) => task.addresses);
    if (known) zone.addresses.set(name, [...new Set(serving)]);
    else zone.addresses.delete(name);
  }

  #addressesOf(serviceId: string): string[] {
    return [...(this.#serving.get(serviceId)?.values() ?? [])].flatMap((task) => task.addresses);
  }

  #factsOf({ id, target, virtual, ports }: ServiceNames): ServiceFacts {
    const named = [...(this.#serving.get(id)?.values() ?? [])].filter((task) => task.target !== '');
    const tasks = named.map((task) => ({ target: task.target, weight: task.weight }));
    return { target, virtual: virtual.length > 0, ports, tasks };
  }
}

/** What resolvers know of a table. */
export function overlayZone(network: string, table: NetworkTable): Zone {
  const live = new LiveZone(network);
  for (const text of zoneText(table, Infinity)) live.read(text);
  return live.zone;
}
