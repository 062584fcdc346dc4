import {
  TaskState,
  timestampFromMs,
  type NetworkAttachment,
  type Service,
  type Task,
  type TaskStatus,
} from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';
import { bitsOf } from './address.ts';
import type { Outcome } from './networks.ts';
import { attachedNetworks, attachmentConfigs, exhausted, publishesIngress, type Attached } from './services.ts';
import { awaitsAllocation, familiesOf, isAddressed, networkName, type AllocatorState } from './state.ts';

const PENDING_MESSAGE = 'pending task scheduling';

function statusOf(task: Task): TaskStatus {
  return (
    task.status ?? {
      timestamp: null,
      state: TaskState.NEW,
      message: '',
      err: '',
      port_status: null,
      applied_by: '',
      applied_at: null,
    }
  );
}

/**
 * The addresses of a task on one network, one per family with IPv4 first: those that the user asked for, or the next
 * free ones.
 */
function takeAddresses(state: AllocatorState, task: Task, { network, config }: Attached): string[] | { err: string } {
  const held = state.network(network.id);
  if (held === undefined) return { err: `network ${networkName(network)} has no subnet yet` };
  const asked = (config?.addresses ?? []).filter((address) => address !== '');
  const families = familiesOf(held);
  const stray = asked.find((address, at) => {
    const isFamily = families.includes(bitsOf(address));
    return !isFamily || asked.findIndex((other) => bitsOf(other) === bitsOf(address)) !== at;
  });
  const refused = (address: string): { err: string } => ({
    err: `address ${address} cannot be used on network ${held.name}: it is in use, or of no subnet of the network`,
  });
  if (stray !== undefined) return refused(stray);
  const addresses: string[] = [];
  for (const bits of families) {
    const own = asked.find((address) => bitsOf(address) === bits);
    const address =
      own === undefined ? state.takeAddress(held, task.id, bits) : state.takeRequested(held, task.id, own);
    if (address === undefined) return own === undefined ? { err: exhausted(held, bits) } : refused(own);
    addresses.push(address);
  }
  return addresses;
}

function attach(
  state: AllocatorState,
  task: Task,
  attached: readonly Attached[],
): NetworkAttachment[] | { err: string } {
  const attachments: NetworkAttachment[] = [];
  for (const one of attached) {
    const addresses: string[] = [];
    if (isAddressed(one.network)) {
      const taken = takeAddresses(state, task, one);
      if ('err' in taken) return taken;
      addresses.push(...taken);
    }
    attachments.push({
      network: one.network,
      addresses,
      aliases: one.config?.aliases ?? [],
      driver_attachment_opts: one.config?.driver_attachment_opts ?? {},
    });
  }
  return attachments;
}

/**
 * Gives a new task its addresses and ports, and moves it to PENDING. On an error it holds nothing.
 * @param service the task's service, allocated; undefined for a task that belongs to none.
 */
export function allocateTask(
  state: AllocatorState,
  view: ReadView,
  task: Task,
  service: Service | undefined,
  nowMs: number,
): Outcome<Task> {
  const ports = service?.endpoint?.ports ?? [];
  const attached = attachedNetworks(view, attachmentConfigs(service?.spec, task.spec), publishesIngress(ports));
  if ('err' in attached) return attached;
  const networks = attach(state, task, attached);
  if ('err' in networks) {
    state.releaseOwner(task.id);
    return networks;
  }
  const status = {
    ...statusOf(task),
    state: TaskState.PENDING,
    timestamp: timestampFromMs(nowMs),
    message: PENDING_MESSAGE,
    err: '',
  };
  return { object: { ...task, networks, endpoint: service?.endpoint ?? task.endpoint, status } };
}

/**
 * A new task as the allocator would leave it when there is nothing to allocate for it: on no network, with no port. It
 * needs no write of its own to become PENDING. Other tasks are returned as they are.
 */
export function withoutNeeds(task: Task, view: ReadView): Task {
  const service = task.service_id === '' ? undefined : view.get('service', task.service_id);
  if (service === undefined || !awaitsAllocation(task)) return task;
  if (attachmentConfigs(service.spec, task.spec).length > 0 || (task.endpoint?.spec?.ports.length ?? 0) > 0)
    return task;
  const published = service.spec?.endpoint?.ports.length ?? 0;
  if (published > 0 || (service.endpoint?.ports.length ?? 0) > 0) return task;
  return { ...task, status: { ...statusOf(task), state: TaskState.PENDING, message: PENDING_MESSAGE } };
}

/** The task with the reason why it must wait; undefined when it says so already. */
export function explainWait(task: Task, err: string): Task | undefined {
  const status = statusOf(task);
  return status.err === err ? undefined : { ...task, status: { ...status, err } };
}
