import { PortConfig_PublishMode, TaskState, type Task } from '../../proto/index.ts';
import type { ReadView } from '../../manager/index.ts';
import { observed, taskText } from './words.ts';
import { Violation } from './violation.ts';

/** Remembers who has what, and finds the second. */
class Owners {
  readonly #invariant: string;
  readonly #owners = new Map<string, string>();

  constructor(invariant: string) {
    this.#invariant = invariant;
  }

  take(what: string, owner: string): void {
    const other = this.#owners.get(what);
    if (other === undefined) this.#owners.set(what, owner);
    else if (other !== owner) throw new Violation(this.#invariant, `${other} and ${owner} have ${what}`);
  }
}

/** Whether a task has its addresses, or may still use them. */
function isLive(task: Task): boolean {
  const state = observed(task);
  if (state < TaskState.PENDING || state > TaskState.RUNNING) return false;
  return state >= TaskState.ASSIGNED || task.desired_state <= TaskState.COMPLETE;
}

function withoutMask(address: string): string {
  return address.split('/')[0] ?? address;
}

/** No address, subnet or published port is given twice. @throws Violation */
export function checkAddresses(view: ReadView): void {
  const addresses = new Owners('addresses are given once');
  const ports = new Owners('ports are given once');
  const subnets = new Owners('subnets are given once');
  for (const network of view.list('network')) {
    for (const { subnet, gateway } of network.ipam?.configs ?? []) {
      subnets.take(subnet, `network ${network.id}`);
      addresses.take(`${network.id} ${withoutMask(gateway)}`, 'the gateway');
    }
  }
  for (const service of view.list('service')) {
    const owner = `service ${service.spec?.annotations?.name ?? service.id}`;
    for (const vip of service.endpoint?.virtual_ips ?? []) {
      if (vip.addr !== '') addresses.take(`${vip.network_id} ${withoutMask(vip.addr)}`, owner);
    }
    for (const port of service.endpoint?.ports ?? []) {
      if (port.publish_mode === PortConfig_PublishMode.INGRESS && port.published_port !== 0) {
        ports.take(`published port ${port.protocol}/${port.published_port}`, owner);
      }
    }
  }
  for (const task of view.list('task')) {
    if (!isLive(task)) continue;
    const owner = `task ${task.id}`;
    for (const { network, addresses: given } of task.networks) {
      for (const address of given) addresses.take(`${network?.id} ${withoutMask(address)}`, owner);
    }
    if (observed(task) < TaskState.ASSIGNED) continue;
    for (const port of task.endpoint?.ports ?? []) {
      if (port.publish_mode !== PortConfig_PublishMode.HOST || port.published_port === 0) continue;
      ports.take(`port ${port.protocol}/${port.published_port} of node ${task.node_id}`, owner);
    }
  }
}

interface Sum {
  cpus: number;
  memory: number;
  generic: Map<string, number>;
}

function reserved(view: ReadView, nodeId: string): Sum {
  const sum: Sum = { cpus: 0, memory: 0, generic: new Map() };
  for (const task of view.tasksByNode(nodeId)) {
    const state = observed(task);
    if (state < TaskState.ASSIGNED || state > TaskState.RUNNING) continue;
    const wanted = task.spec?.resources?.reservations;
    sum.cpus += wanted?.nano_cpus ?? 0;
    sum.memory += wanted?.memory_bytes ?? 0;
    for (const { discrete_resource_spec: units } of wanted?.generic ?? []) {
      if (units !== undefined) sum.generic.set(units.kind, (sum.generic.get(units.kind) ?? 0) + units.value);
    }
  }
  return sum;
}

/** A task was placed: with it, its node is not asked for more than it has. @throws Violation */
export function checkCapacity(view: ReadView, task: Task): void {
  const wanted = task.spec?.resources?.reservations;
  if (wanted === null || wanted === undefined) return;
  const has = view.get('node', task.node_id)?.description?.resources;
  if (has === null || has === undefined) return;
  const sum = reserved(view, task.node_id);
  const over: string[] = [];
  if (wanted.nano_cpus > 0 && sum.cpus > has.nano_cpus) over.push(`${sum.cpus} of ${has.nano_cpus} nano-CPUs`);
  if (wanted.memory_bytes > 0 && sum.memory > has.memory_bytes) over.push(`${sum.memory} of ${has.memory_bytes} bytes`);
  for (const { discrete_resource_spec: units } of wanted.generic) {
    const kind = units?.kind ?? '';
    const owned = has.generic.reduce((total, one) => {
      if (one.named_resource_spec?.kind === kind) return total + 1;
      return one.discrete_resource_spec?.kind === kind ? total + one.discrete_resource_spec.value : total;
    }, 0);
    if ((sum.generic.get(kind) ?? 0) > owned) over.push(`${sum.generic.get(kind)} of ${owned} ${kind}`);
  }
  if (over.length === 0) return;
  const what = `with ${taskText(task)} its node has reserved ${over.join(', ')}`;
  throw new Violation('reservations fit', what);
}
