import { invalidArgument, newId, notFound, ShoalError, type Clock, type Random } from '../../base/index.ts';
import {
  Task,
  TaskState,
  timestampFromMs,
  type AttachNetworkRequest,
  type AttachNetworkResponse,
  type DetachNetworkRequest,
  type DetachNetworkResponse,
  type Network,
} from '../../proto/index.ts';
import type { UnaryCall } from '../dispatcher/calls.ts';
import type { ReadView, Store } from '../store/types.ts';

/** Longest wait for the address of a new place, ms. */
export const ALLOCATION_WAIT_MS = 10_000;
/** How long what keeps a place from its address must stand until it is the answer, ms: a new network needs a moment. */
export const TROUBLE_STANDS_MS = 1_000;
const POLL_MS = 20;
/** Names of a container on one network. */
const NAMES_MAX = 64;

export interface NetworkAttachmentsOptions {
  store: Store;
  clock: Clock;
  random: Random;
}

function findNetwork(view: ReadView, target: string): Network | undefined {
  return view.get('network', target) ?? view.byName('network', target);
}

/** Whether a task is the place of a container on a network, still valid. */
function isPlace(task: Task, containerId: string, networkId: string): boolean {
  return (
    task.service_id === '' &&
    task.spec?.attachment?.container_id === containerId &&
    task.spec.networks.some(({ target }) => target === networkId)
  );
}

/**
 * Gives plain containers places on attachable networks (swarmkit.md §1.11). A place is a task of no service with the
 * node given: the allocator finds its address, and its node's agent is sent it with the network's table.
 */
export class NetworkAttachments {
  readonly #o: NetworkAttachmentsOptions;

  constructor(options: NetworkAttachmentsOptions) {
    this.#o = options;
  }

  /**
   * Makes a place and waits for its address. A container has one place on a network: a new one takes the place of one
   * that its node may have lost sight of.
   * @throws ShoalError NotFound, PermissionDenied (not attachable), ResourceExhausted with the allocator's words
   */
  async attach(call: UnaryCall<AttachNetworkRequest>): Promise<AttachNetworkResponse> {
    const { config, container_id: containerId } = call.request;
    if (config === null || config.target === '' || containerId === '') throw invalidArgument('invalid argument');
    if (config.aliases.length > NAMES_MAX) throw invalidArgument(`a container has at most ${NAMES_MAX} names`);
    const { store, clock, random } = this.#o;
    const id = newId(random);
    await store.update((tx) => {
      if (tx.get('node', call.nodeId) === undefined) throw notFound(`node ${call.nodeId} not found`);
      const network = findNetwork(tx, config.target);
      if (network === undefined) throw notFound(`network ${config.target} not found`);
      const name = network.spec?.annotations?.name ?? network.id;
      if (network.spec?.attachable !== true) {
        throw new ShoalError('PermissionDenied', `network ${name} not manually attachable`);
      }
      for (const former of tx.tasksByNode(call.nodeId)) {
        if (isPlace(former, containerId, network.id)) tx.remove('task', former.id);
      }
      const [own = '', ...aliases] = config.aliases;
      const task = Task.create({
        id,
        node_id: call.nodeId,
        annotations: { name: own },
        spec: {
          attachment: { container_id: containerId },
          networks: [{ ...config, target: network.id, aliases }],
        },
        status: { state: TaskState.NEW, timestamp: timestampFromMs(clock.now()), message: 'created' },
        desired_state: TaskState.RUNNING,
      });
      tx.create('task', task);
    });
    const trouble = await this.#allocated(id, call.signal);
    if (trouble === undefined) return { attachment_id: id };
    await this.#remove(id);
    throw new ShoalError('ResourceExhausted', trouble);
  }

  /** Waits until a place has its address; resolves with what keeps it from having one. */
  async #allocated(id: string, signal: AbortSignal): Promise<string | undefined> {
    const { store, clock } = this.#o;
    const end = clock.monotonic() + ALLOCATION_WAIT_MS;
    let since = { err: '', ms: 0 };
    for (;;) {
      const task = store.view().get('task', id);
      if (task === undefined) return 'the place on the network was taken back: the container or network was removed';
      const { state = TaskState.NEW, err = '' } = task.status ?? {};
      if (state >= TaskState.ASSIGNED) return undefined;
      const now = clock.monotonic();
      if (err !== since.err) since = { err, ms: now };
      if (err !== '' && now - since.ms >= TROUBLE_STANDS_MS) return err;
      if (now >= end) return `the managers gave no address within ${ALLOCATION_WAIT_MS / 1000} s`;
      await clock.sleep(POLL_MS, signal);
    }
  }

  /** Takes a place back. One that is not there (any more) is no fault. @throws ShoalError PermissionDenied */
  async detach(call: UnaryCall<DetachNetworkRequest>): Promise<DetachNetworkResponse> {
    const { attachment_id: id } = call.request;
    if (id === '') throw invalidArgument('invalid argument');
    const task = this.#o.store.view().get('task', id);
    if (task === undefined) return {};
    if (task.node_id !== call.nodeId || task.spec?.attachment === undefined) {
      throw new ShoalError('PermissionDenied', `attachment ${id} is not of node ${call.nodeId}`);
    }
    await this.#remove(id);
    return {};
  }

  async #remove(id: string): Promise<void> {
    await this.#o.store.update((tx) => {
      if (tx.get('task', id) !== undefined) tx.remove('task', id);
    });
  }
}
