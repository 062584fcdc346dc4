import {
  backoffDelayMs,
  errorMessage,
  isShoalError,
  TaskGroup,
  unavailable,
  type Clock,
  type Logger,
  type Random,
} from '../base/index.ts';
import {
  type AttachNetworkRequest,
  type EncryptionKey,
  type Node,
  type SessionMessage,
  type WeightedPeer,
} from '../proto/index.ts';
import type { AgentConnection, ConnectManager } from './connection.ts';
import type { Executor } from './executor.ts';
import { LogPublisher } from './log-publisher.ts';
import { Prober, type Reaches } from './prober.ts';
import { Reporter } from './reporter.ts';
import { runSession, SessionReopen } from './session.ts';
import { StateDb, type StateRecord } from './state-db.ts';
import { TaskSet } from './task-set.ts';
import { UsageMeter } from './usage.ts';

/** Back-off between sessions, ms (swarmkit.md §1.7). */
const BACKOFF = { baseMs: 100, capMs: 8000 };
/** The first tries look for another manager quickly; later ones are more patient with a slow one. */
const QUICK_TRIES = 3;
const OPEN_TIMEOUT_QUICK_MS = 2000;
const OPEN_TIMEOUT_MS = 5000;

/** No try was made: the manager is known to be silent. */
class Silent extends Error {}

export interface AgentOptions {
  nodeId: string;
  executor: Executor;
  connect: ConnectManager;
  /** Asks whether a host takes connections, see `Prober`; absent: only the pauses count. */
  reaches?: Reaches;
  /** Addresses (`host:port`) to begin with; the managers' own list replaces them. */
  managers: readonly string[];
  /** Directory of the agent's own record; made when missing. */
  stateDir: string;
  /** The record itself, instead of a database in `stateDir` (simulations). */
  record?: StateRecord;
  clock: Clock;
  random: Random;
  log: Logger;
  /** The list of managers, whole, whenever a manager sends one. */
  onManagers?: (peers: WeightedPeer[]) => void;
  /** This node as the manager sees it: role, certificate state, labels. */
  onNode?: (node: Node) => void;
  /** The cluster's keys for networks, whole, with each message of a manager that has any. */
  onNetworkKeys?: (keys: readonly EncryptionKey[]) => void;
  /** The root certificates (PEM) of the cluster, when they differ from those sent before. */
  onRootCa?: (pem: Uint8Array) => void;
}

export interface AgentStatus {
  connected: boolean;
  /** Address of the manager; undefined while there is no session. */
  manager: string | undefined;
  sessionId: string | undefined;
}

/**
 * A node's agent: keeps a session with some manager, runs what is assigned, reports what happens. Tasks go on when the
 * session or all managers are lost, and when the daemon restarts.
 */
export class Agent {
  readonly #options: AgentOptions;
  readonly #db: StateRecord;
  readonly #reporter = new Reporter();
  readonly #tasks: TaskSet;
  readonly #logs: LogPublisher;
  readonly #usage: UsageMeter;
  readonly #group: TaskGroup;
  #managers: string[];
  #manager: string | undefined;
  /** Managers that are still to be tried before the pause grows. */
  #round: string[] = [];
  /** Addresses to try next, before all others. */
  #preferred: string[] = [];
  /** Ends a pause between two tries. */
  #hint = new AbortController();
  #sessionId = '';
  #established = false;
  #connection: AgentConnection | undefined;
  readonly #prober: Prober | undefined;
  /** Whether the last try got as far as a session. */
  #hadSession = false;
  #rootCa: Uint8Array | undefined;

  constructor(options: AgentOptions) {
    this.#options = options;
    const { executor, clock, log } = options;
    this.#managers = [...options.managers];
    this.#db = options.record ?? new StateDb(options.stateDir, log);
    this.#group = new TaskGroup(log);
    const { reaches, random } = options;
    const onAnswer = (address: string): void => this.#try([address]);
    this.#prober = reaches && new Prober({ reaches, clock, random, onAnswer });
    this.#tasks = new TaskSet({
      executor,
      db: this.#db,
      reporter: this.#reporter,
      clock,
      log,
      onTaskChanged: (source) => this.#logs.taskChanged(source),
    });
    this.#logs = new LogPublisher({ nodeId: options.nodeId, clock, log, sources: () => this.#tasks.sources() });
    this.#usage = new UsageMeter({ clock, log, sources: () => this.#tasks.sources() });
  }

  /** Takes up the tasks of an earlier life, then looks for a manager in the background. */
  async start(): Promise<void> {
    await this.#tasks.load();
    this.#group.start('agent session', (signal) => this.#run(signal));
  }

  /** Ends the session. Containers go on. */
  async stop(): Promise<void> {
    await this.#group.stop();
    await this.#prober?.clear();
    await this.#tasks.stop();
    await this.#db.close();
  }

  /** Further addresses of managers, tried first: after a restore the managers that this agent knows are gone. */
  tryManagers(addresses: readonly string[]): void {
    this.#managers = [...new Set([...addresses, ...this.#managers])];
    this.#try(addresses);
  }

  /** Tries these next, and at once. */
  #try(addresses: readonly string[]): void {
    this.#preferred = [...addresses];
    this.#hint.abort();
    this.#hint = new AbortController();
  }

  /** Asks the managers for a place on a network. @throws ShoalError Unavailable without a session, or the managers' own */
  async attachNetwork(request: AttachNetworkRequest, timeoutMs: number): Promise<string> {
    return await this.#attaching('attachNetwork')(request, timeoutMs);
  }

  /** Gives a place back. @throws ShoalError as `attachNetwork` */
  async detachNetwork(attachmentId: string, timeoutMs: number): Promise<void> {
    await this.#attaching('detachNetwork')(attachmentId, timeoutMs);
  }

  #attaching<M extends 'attachNetwork' | 'detachNetwork'>(method: M): NonNullable<AgentConnection[M]> {
    const call = this.#established ? this.#connection?.[method] : undefined;
    if (call === undefined) throw unavailable('this node has no session with a manager');
    return call;
  }

  status(): AgentStatus {
    const connected = this.#established;
    return {
      connected,
      manager: connected ? this.#manager : undefined,
      sessionId: connected ? this.#sessionId : undefined,
    };
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    let failures = 0;
    let rounds = 0;
    while (!signal.aborted) {
      const address = this.#choose();
      try {
        if (address === undefined) throw new Error('no manager is known');
        if (this.#prober?.isSilent(address) === true) throw new Silent();
        await this.#session(address, failures, signal);
      } catch (error) {
        if (signal.aborted) return;
        if (error instanceof SessionReopen) continue;
        // A session that stood says that the next try deserves to be quick.
        if (this.#hadSession) [failures, rounds] = [0, 0];
        // The manager does not know the session (any more): ask for a new one.
        if (isShoalError(error, 'NotFound', 'InvalidArgument', 'DataLoss')) this.#sessionId = '';
        if (!(error instanceof Silent)) {
          log.warn('no session with a manager; trying again', { manager: address, error: errorMessage(error) });
        }
      }
      failures++;
      // The pause grows with each round: where most managers are gone, the one that is left must be found soon.
      const delayMs = backoffDelayMs(this.#round.length > 0 ? 0 : rounds++, BACKOFF, random);
      await clock.sleep(delayMs, AbortSignal.any([signal, this.#hint.signal])).catch(() => undefined);
    }
  }

  async #session(address: string, failures: number, signal: AbortSignal): Promise<void> {
    const { clock, log } = this.#options;
    this.#hadSession = false;
    this.#manager = address;
    const connection = this.#options.connect(address);
    this.#connection = connection;
    try {
      await runSession(
        {
          connection,
          sessionId: this.#sessionId,
          openTimeoutMs: failures < QUICK_TRIES ? OPEN_TIMEOUT_QUICK_MS : OPEN_TIMEOUT_MS,
          reporter: this.#reporter,
          clock,
          log,
          handlers: this.#handlers(connection, address),
        },
        signal,
      );
    } finally {
      this.#established = false;
      if (!this.#hadSession && !signal.aborted && connection.isConnected?.() === false) this.#prober?.suspect(address);
      connection.close();
    }
  }

  #handlers(connection: AgentConnection, address: string): Parameters<typeof runSession>[0]['handlers'] {
    return {
      describe: () => this.#options.executor.describe(),
      onEstablished: (sessionId) => {
        this.#hadSession = true;
        this.#established = true;
        this.#forgetSilence();
        this.#sessionId = sessionId;
        this.#options.log.info('session with a manager', { manager: address, session: sessionId });
        this.#tasks.reportAll();
      },
      onMessage: (message) => this.#onMessage(message),
      beginAssignments: () => this.#tasks.beginStream(),
      onAssignments: (message) => this.#tasks.apply(message),
      onSubscription: (message, signal) => this.#logs.handle(message, connection, signal),
      usage: (signal) => this.#usage.take(signal),
      checkNetworks: this.#options.executor.checkNetworks?.bind(this.#options.executor),
    };
  }

  #forgetSilence(): void {
    this.#prober?.clear().catch((error: unknown) => {
      this.#options.log.error('managers that were silent are still asked', { error });
    });
  }

  #onMessage(message: SessionMessage): void {
    const { onManagers, onNetworkKeys, onNode, onRootCa } = this.#options;
    const addresses = message.managers.map((one) => one.peer?.addr ?? '').filter((addr) => addr !== '');
    if (addresses.length > 0) {
      this.#managers = [...new Set(addresses)];
      onManagers?.(message.managers);
    }
    if (message.network_bootstrap_keys.length > 0) onNetworkKeys?.(message.network_bootstrap_keys);
    if (message.node !== null) onNode?.(message.node);
    const pem = message.RootCA;
    if (pem.length === 0 || (this.#rootCa !== undefined && Buffer.compare(this.#rootCa, pem) === 0)) return;
    this.#rootCa = pem;
    onRootCa?.(pem);
  }

  /** The managers one after the other in an order of chance, the one that was tried last as late as can be. */
  #choose(): string | undefined {
    const preferred = this.#preferred.shift();
    if (preferred !== undefined) return preferred;
    this.#round = this.#round.filter((address) => this.#managers.includes(address));
    if (this.#round.length === 0) {
      const others = this.#managers.filter((address) => address !== this.#manager);
      const last = this.#managers.filter((address) => address === this.#manager);
      while (others.length > 0) this.#round.push(...others.splice(this.#options.random.int(others.length), 1));
      this.#round.push(...last);
    }
    return this.#round.shift();
  }
}
