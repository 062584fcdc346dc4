import {
  backoffDelayMs,
  errorMessage,
  must,
  TaskGroup,
  unavailable,
  type Clock,
  type Logger,
  type Random,
} from '../base/index.ts';
import { channelOptions, TlsIdentity, verifyChain, type IdentityStore, type NodeIdentity } from '../identity/index.ts';
import { Manager, type ClusterInit, type ManagerStart, type RestoreImage } from '../manager/index.ts';
import type { HostNetworks } from '../overlay-net/index.ts';
import { IssuanceStatus_State, NodeRole, type EncryptionKey, type Node, type WeightedPeer } from '../proto/index.ts';
import { Agent, grpcConnection, reaches, type Executor } from '../worker/index.ts';
import { splitHostPort } from './addresses.ts';
import { CertificateRenewal } from './certificate-renewal.ts';
import type { KnownManager, SwarmFiles, SwarmSettings } from './swarm-files.ts';

const PROMOTION_BACKOFF = { baseMs: 500, capMs: 60_000 };
const CONNECT_POLL_MS = 20;
const DEFAULT_DATA_PATH_PORT = 4789;
/** Whose keys these are, in Swarm's words: of encrypted networks (Docker's use IPsec). */
const IPSEC_SUBSYSTEM = 'networking:ipsec';
/** Pause between two tries to write to a full disk, ms. */
const DISK_RETRY_MS = 2_000;

function isDiskFull(error: unknown): boolean {
  // The raft log says what can be done; the cause is what the file system said.
  for (let at: unknown = error; at instanceof Error; at = at.cause) {
    const { code } = at as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT') return true;
  }
  return false;
}

export interface MemberOptions {
  files: SwarmFiles;
  /** Open, with the identity that this member starts with. */
  identities: IdentityStore;
  settings: SwarmSettings;
  executor: Executor;
  networks: HostNetworks;
  clock: Clock;
  random: Random;
  log: Logger;
  onManager: (manager: Manager) => void;
  onFatal: (error: unknown) => void;
  /** The manager that failed is back. */
  onRecovered: () => void;
  /** The managers no longer know this node. */
  onExpelled: () => void;
}

export type MemberStart =
  | { kind: 'bootstrap'; clusterInit: ClusterInit }
  | { kind: 'join'; remoteAddr: string }
  | { kind: 'restart' }
  | { kind: 'force-new-cluster' }
  | { kind: 'restore'; image: RestoreImage };

/** A node that is part of a swarm: its agent, its manager when it is one, and its certificate. */
export class Member {
  readonly settings: SwarmSettings;
  readonly #options: MemberOptions;
  readonly #group: TaskGroup;
  #tls: TlsIdentity | undefined;
  #manager: Manager | undefined;
  agent: Agent | undefined;
  #managers: KnownManager[];
  #error = '';
  readonly #renewal: CertificateRenewal;
  #dataPathPort: number;
  /** What the manager failed of last; undefined once it works. */
  #failure: unknown;
  /** The failed manager is being stopped or started anew. */
  #returning = false;
  /** Role changes run one after another. */
  #roleChange: Promise<void> = Promise.resolve();

  constructor(options: MemberOptions) {
    this.#options = options;
    this.settings = options.settings;
    this.#group = new TaskGroup(options.log);
    this.#managers = options.files.managers();
    this.#dataPathPort = options.settings.dataPathPort || DEFAULT_DATA_PATH_PORT;
    this.#renewal = new CertificateRenewal({
      ...options,
      identity: () => must(this.identity, 'identity'),
      managers: () => this.#managers,
      onRenewed: (renewed, remoteAddr, signal) => this.#onRenewed(renewed, remoteAddr, signal),
    });
  }

  /** What `swarm init` chose, in the manager's terms. */
  static clusterInit(request: {
    rootCa: ClusterInit['rootCa'];
    spec: ClusterInit['spec'];
    defaultAddrPool: readonly string[];
    subnetSize: number;
    dataPathPort: number;
    availability: NonNullable<ClusterInit['availability']>;
    nodeLabels: ClusterInit['nodeLabels'];
    unlockKey: ClusterInit['unlockKey'];
  }): ClusterInit {
    return {
      rootCa: request.rootCa,
      spec: request.spec,
      defaultAddressPools: request.defaultAddrPool,
      subnetSize: request.subnetSize === 0 ? undefined : request.subnetSize,
      dataPathPort: request.dataPathPort === 0 ? undefined : request.dataPathPort,
      availability: request.availability,
      nodeLabels: request.nodeLabels,
      unlockKey: request.unlockKey,
    };
  }

  get identity(): NodeIdentity | undefined {
    return this.#tls?.current;
  }

  get manager(): Manager | undefined {
    return this.#manager;
  }

  get error(): string {
    return this.#error;
  }

  managers(): KnownManager[] {
    return this.#managers;
  }

  /** Host part of the tunnel end point. */
  get dataPathAddr(): string {
    return this.settings.dataPathAddr || splitHostPort(this.settings.advertiseAddr, 1).host;
  }

  async start(identity: NodeIdentity, how: MemberStart): Promise<void> {
    this.#tls = new TlsIdentity(identity);
    await this.#setUnderlay();
    const promoted = this.#isPromotionOpen(identity, how);
    if (identity.role === 'manager' && !promoted) await this.#startManager(identity, how);
    // What is left of a demotion that a restart interrupted: secrets do not belong onto a worker's disk.
    if (identity.role === 'worker' && Manager.hasState(this.#options.files.dir)) this.#forgetManager();
    if (how.kind === 'join') this.#knowManagers([{ nodeId: '', addr: how.remoteAddr }]);
    await this.#startAgent(identity);
    this.#group.start('certificate renewal', (signal) => this.#renewal.run(signal));
    if (promoted) void this.#changeRole('promotion', () => this.#promote(identity, undefined, this.#group.signal));
  }

  /** Whether a restart came between the certificate of a promoted node and its entry into the raft group. */
  #isPromotionOpen(identity: NodeIdentity, how: MemberStart): boolean {
    const { files, identities } = this.#options;
    const knows = this.#managers.some(({ nodeId }) => nodeId !== identity.nodeId);
    return how.kind === 'restart' && identity.role === 'manager' && knows && Manager.isNew(files.dir, identities);
  }

  async #setUnderlay(): Promise<void> {
    const { networks } = this.#options;
    const nodeId = must(this.identity, 'identity').nodeId;
    await networks.setUnderlay({ vtep: this.dataPathAddr, dataPathPort: this.#dataPathPort, nodeId });
  }

  async #startManager(identity: NodeIdentity, how: MemberStart): Promise<void> {
    const { files, identities, clock, random, log, settings } = this.#options;
    const start: ManagerStart = how.kind === 'bootstrap' ? { kind: 'bootstrap' } : how;
    this.#manager = await Manager.start(
      {
        identity,
        identities,
        stateDir: files.dir,
        listenAddr: settings.listenAddr,
        advertiseAddr: settings.advertiseAddr,
        dataPathAddr: this.dataPathAddr,
        clock,
        random,
        log,
        ...(how.kind === 'bootstrap' ? { clusterInit: how.clusterInit } : {}),
        onRemoved: () => this.#demoted(),
        onLocked: () => this.#renewal.ask(),
        onFatal: (error) => this.#managerFailed(error),
      },
      start,
    );
    this.#options.onManager(this.#manager);
    const self = { nodeId: identity.nodeId, addr: this.#manager.advertiseAddr };
    if (!this.#managers.some((known) => known.nodeId === self.nodeId)) this.#knowManagers([...this.#managers, self]);
  }

  /** Taken out of the raft group: the manager ends; the agent goes on and gets a worker's certificate. */
  #demoted(): void {
    void this.#changeRole('demotion', async () => {
      await this.#stopManager();
      this.#forgetManager();
      if (this.identity?.role === 'manager') this.#renewal.ask();
    });
  }

  #forgetManager(): void {
    const { files, identities } = this.#options;
    Manager.forget(files.dir, identities);
  }

  #managerFailed(error: unknown): void {
    this.#failure = error;
    this.#error = `the manager of this node stopped: ${errorMessage(error)}`;
    this.#options.log.error('the manager of this node failed', { error });
    this.#options.onFatal(error);
    if (this.#returning) return;
    this.#returning = true;
    void this.#changeRole('failed manager', async () => {
      await this.#stopManager();
      if (isDiskFull(error)) await this.#returnWithSpace();
    }).finally(() => (this.#returning = false));
  }

  /** A full disk is no damage: the manager takes up its log again as soon as it can write. */
  async #returnWithSpace(): Promise<void> {
    const { clock, log } = this.#options;
    const { signal } = this.#group;
    while (!signal.aborted && this.identity?.role === 'manager') {
      await clock.sleep(DISK_RETRY_MS, signal).catch(() => undefined);
      if (signal.aborted) return;
      this.#failure = undefined;
      try {
        await this.#startManager(this.identity, { kind: 'restart' });
      } catch (error) {
        this.#failure = error;
      }
      if (this.#failure === undefined) {
        this.#error = '';
        log.info('the disk takes writes again; the manager of this node is back');
        this.#options.onRecovered();
        return;
      }
      log.warn('the manager of this node cannot return yet', { error: errorMessage(this.#failure) });
      await this.#stopManager();
    }
  }

  #changeRole(what: string, run: () => Promise<void>): Promise<void> {
    this.#roleChange = this.#roleChange.then(run).catch((error: unknown) => {
      this.#options.log.error('a change of role failed', { what, error });
    });
    return this.#roleChange;
  }

  async #stopManager(): Promise<void> {
    const manager = this.#manager;
    this.#manager = undefined;
    await manager?.stop();
  }

  async #startAgent(identity: NodeIdentity): Promise<void> {
    const { files, executor, clock, random, log } = this.#options;
    const tls = must(this.#tls, 'TLS identity');
    const own = this.#manager?.advertiseAddr;
    const known = this.#managers.map((manager) => manager.addr);
    this.agent = new Agent({
      nodeId: identity.nodeId,
      executor,
      connect: (address) =>
        grpcConnection(address, { credentials: tls.channelCredentials(), clock, channel: channelOptions() }),
      reaches,
      managers: own === undefined ? known : [...new Set([own, ...known])],
      stateDir: files.workerDir,
      clock,
      random,
      log,
      onManagers: (peers) => this.#onManagers(peers),
      onNode: (node) => this.#onNode(node),
      onNetworkKeys: (keys) => this.#onNetworkKeys(keys),
      onRootCa: (pem) => this.#onRootCa(pem),
    });
    await this.agent.start();
  }

  #onManagers(peers: WeightedPeer[]): void {
    this.#knowManagers(
      peers
        .map(({ peer }) => ({ nodeId: peer?.node_id ?? '', addr: peer?.addr ?? '' }))
        .filter(({ addr }) => addr !== ''),
    );
  }

  #knowManagers(managers: KnownManager[]): void {
    const sorted = [...managers].sort((a, b) => a.addr.localeCompare(b.addr));
    if (JSON.stringify(sorted) === JSON.stringify(this.#managers)) return;
    this.#managers = sorted;
    this.#options.files.saveManagers(sorted);
  }

  #onNetworkKeys(keys: readonly EncryptionKey[]): void {
    const { networks, log } = this.#options;
    const ours = keys
      .filter(({ subsystem }) => subsystem === IPSEC_SUBSYSTEM)
      .map(({ key, lamport_time: lamportTime }) => ({ key: Buffer.from(key).toString('hex'), lamportTime }));
    networks.setNetworkKeys(ours).catch((error: unknown) => {
      log.error('the new keys of encrypted networks could not be taken', { error });
    });
  }

  #onNode(node: Node): void {
    const wanted = node.role === NodeRole.MANAGER ? 'manager' : 'worker';
    const state = node.certificate?.status?.state;
    if (wanted !== this.identity?.role || state === IssuanceStatus_State.ROTATE) this.#renewal.ask();
    if (node.VXLANUDPPort !== 0 && node.VXLANUDPPort !== this.#dataPathPort) {
      this.#dataPathPort = node.VXLANUDPPort;
      this.#setUnderlay().catch((error: unknown) =>
        this.#options.log.error('the underlay could not be set', { error }),
      );
    }
  }

  /** A pushed root is taken only when this node's certificate leads to it. */
  #onRootCa(pem: Uint8Array): void {
    const { clock, identities, log } = this.#options;
    const identity = must(this.identity, 'identity');
    const rootCa = Buffer.from(pem).toString('utf8');
    if (rootCa === identity.rootCa) return;
    try {
      verifyChain(identity.cert, rootCa, clock.now());
    } catch (error) {
      log.warn('a pushed root certificate is not trusted by this node and is ignored', { error });
      return;
    }
    this.#useIdentity({ ...identity, rootCa });
    identities.save({ ...identity, rootCa });
  }

  #useIdentity(identity: NodeIdentity): void {
    this.#tls?.update(identity);
    this.#manager?.updateIdentity(identity);
  }

  /** A renewed certificate may bring another role; `remoteAddr` is the manager that signed it. */
  #onRenewed(renewed: NodeIdentity, remoteAddr: string, signal: AbortSignal): void {
    this.#useIdentity(renewed);
    // It is out of the raft group by then, and may not hear of that: nobody there speaks to it any more.
    if (renewed.role === 'worker' && this.#manager !== undefined) this.#demoted();
    if (renewed.role !== 'manager' || this.#manager !== undefined) return;
    void this.#changeRole('promotion', async () => {
      if (this.#manager === undefined) await this.#promote(renewed, remoteAddr, signal);
    });
  }

  /** Joins the raft group; tried again until it works or the role is taken back. */
  async #promote(identity: NodeIdentity, signer: string | undefined, signal: AbortSignal): Promise<void> {
    const { clock, random, log } = this.#options;
    for (let attempt = 0; !signal.aborted && this.identity?.role === 'manager'; attempt++) {
      const others = this.#managers.filter(({ nodeId }) => nodeId !== identity.nodeId);
      const remoteAddr = signer ?? others[random.int(Math.max(1, others.length))]?.addr ?? '';
      try {
        await this.#startManager(identity, { kind: 'join', remoteAddr });
        return;
      } catch (error) {
        log.warn('this node could not become a manager yet', { error: errorMessage(error) });
        await clock.sleep(backoffDelayMs(attempt, PROMOTION_BACKOFF, random), signal).catch(() => undefined);
      }
    }
  }

  /** Resolves when the agent has a session. @throws ShoalError Unavailable in Docker's words after `timeoutMs` */
  async waitUntilConnected(timeoutMs: number): Promise<void> {
    const { clock } = this.#options;
    const end = clock.monotonic() + timeoutMs;
    while (this.agent?.status().connected !== true) {
      if (clock.monotonic() > end) {
        throw unavailable(
          'Timeout was reached before node joined. The attempt to join the swarm was given up; ' +
            'check that the managers can be reached and try again.',
        );
      }
      await clock.sleep(CONNECT_POLL_MS);
    }
  }

  /**
   * Has the agent try these managers beside those it knows; resolves when it has a session.
   * @throws ShoalError Unavailable after `timeoutMs`; the agent goes on trying
   */
  async rejoin(addresses: readonly string[], timeoutMs: number): Promise<void> {
    this.agent?.tryManagers(addresses);
    await this.waitUntilConnected(timeoutMs).catch((error: unknown) => {
      throw unavailable(
        `no session with a manager of the swarm after ${timeoutMs / 1000} s (${errorMessage(error)}); the node goes on trying. ` +
          'If the swarm no longer knows it: docker swarm leave --force, then join with a token.',
      );
    });
  }

  /** Ends manager and agent; containers go on. */
  async stop(): Promise<void> {
    await this.#group.stop();
    await this.#roleChange;
    await this.agent?.stop();
    await this.#stopManager();
  }
}
