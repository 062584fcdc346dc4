import { rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  isShoalError,
  ShoalError,
  unavailable,
  unreachable,
  type Clock,
  type Logger,
  type Random,
} from '../base/index.ts';
import { callUnary, type IdentityStore, type NodeIdentity } from '../identity/index.ts';
import {
  CAService,
  ControlService,
  GetUnlockKeyRequest,
  JoinRequest,
  NetworkChecksService,
  RaftMembershipService,
  type CheckNetworksRequest,
  type CheckNetworksResponse,
  type MethodDescription,
  type RequestOf,
  type ResponseOf,
  type SubscribeLogsMessage,
  type SubscribeLogsRequest,
} from '../proto/index.ts';
import { hasWal, removeWal, type StartMode } from '../raft/index.ts';
import type { RestoreImage } from './backup/index.ts';
import { clusterOf, createCluster, type ClusterInit } from './ca/index.ts';
import { isRead } from './confirmed-reads.ts';
import type { ConsensusOptions } from './consensus.ts';
import { DataKeys } from './keys/index.ts';
import { LeaderAccess } from './leader-access.ts';
import { leaveConsensus, stopParts } from './leave.ts';
import type { LeadershipStatus } from './leadership.ts';
import { loadMemberFile, saveMemberFile } from './member-file.ts';
import { managerStatuses, type ManagerState } from './manager-state.ts';
import {
  completeAddress,
  memberMessage,
  splitAddress,
  withPort,
  type LastLeader,
  type Member,
} from './membership/index.ts';
import { assemble, type ManagerParts } from './parts.ts';
import { demoteOthers, Recovery } from './recovery.ts';
import type { Store } from './store/types.ts';

/** Time for the leader to take a joining manager in, ms (swarmkit.md §2.1). */
const JOIN_TIMEOUT_MS = 25_000;
/** Time for a manager to become useful after its start, ms. */
const READY_TIMEOUT_MS = 20_000;
/** Time between two looks while waiting for that, ms. */
const READY_POLL_MS = 20;

export interface ManagerOptions {
  /** Identity with the role of a manager. */
  identity: NodeIdentity;
  /** Where that identity is stored, open; this manager keeps the keys of its log there, and its lock up to date. */
  identities: IdentityStore;
  /** Directory of this manager's data; the raft log lies in `raft/` below it. */
  stateDir: string;
  /** `host:port`; port 0 picks a free one (tests). */
  listenAddr: string;
  /** `host` or `host:port` at which other managers and agents reach this one; without a port, the one listened on. */
  advertiseAddr: string;
  /** Address of the tunnel end point; reported by the agent, here only for the log. */
  dataPathAddr?: string | undefined;
  clock: Clock;
  random: Random;
  log: Logger;
  /** The new cluster; needed to bootstrap. */
  clusterInit?: ClusterInit | undefined;
  /** Settings of the raft driver other than the defaults (tests). */
  raft?: ConsensusOptions['raft'];
  /** This manager was removed from consensus (demoted, or removed by force): stop it. Called once. */
  onRemoved: () => void;
  /** Autolock was switched on: the TLS key of this node lay on the disk in clear and should be replaced. */
  onLocked?: () => void;
  /** The disk failed or an invariant broke: stop it. Called once. */
  onFatal: (error: unknown) => void;
}

export type ManagerStart =
  /** The first manager of a new cluster. */
  | { kind: 'bootstrap' }
  /** An additional manager; `remoteAddr` is any manager's address. Former data of this directory is discarded. */
  | { kind: 'join'; remoteAddr: string }
  /** From the data in `stateDir`. */
  | { kind: 'restart' }
  /** From the data in `stateDir`, as the only manager, after the loss of a majority. */
  | { kind: 'force-new-cluster' }
  /** The first manager of a cluster that begins again with what a backup holds. */
  | { kind: 'restore'; image: RestoreImage };

/** A manager of the cluster: consensus, store, services, and the leader's duties. */
export class Manager {
  /** Lost quorum, backups, beginning anew. */
  readonly recovery: Recovery;
  readonly #options: ManagerOptions;
  readonly #parts: ManagerParts;
  readonly #leaderAccess: LeaderAccess;
  /** Set while a forced new cluster has not yet been cleared of its former managers. */
  #forced = false;
  /** Whether this start began to write data, so that a failure must clear it. */
  #ownsData = false;
  #stopping: Promise<void> | undefined;

  private constructor(options: ManagerOptions) {
    this.#options = options;
    const onLeader = (leader: 'found' | LastLeader): void => Recovery.noteLeader(options, leader);
    const onLocked = (): void => options.onLocked?.();
    this.#parts = assemble({ ...options, prepareTerm: () => this.#prepareTerm(), onLeader, onLocked });
    this.#leaderAccess = new LeaderAccess(this.#parts, options);
    this.recovery = new Recovery(options, this.#parts, this.#leaderAccess);
  }

  /**
   * Starts a manager. A bootstrap resolves when the cluster's objects are committed, a join when this manager is a voter
   * with an up-to-date store, a restart at once (the cluster may have no quorum).
   * @throws ShoalError Unavailable (address in use, no leader), FailedPrecondition (not reachable from the leader, data
   *   that does not fit), DataLoss. Nothing of it stays behind after a failed bootstrap or join.
   */
  static async start(options: ManagerOptions, how: ManagerStart): Promise<Manager> {
    if (options.identity.role !== 'manager') {
      throw new ShoalError('FailedPrecondition', `node ${options.identity.nodeId} has no manager's certificate`);
    }
    const manager = new Manager(options);
    try {
      await manager.#start(how);
      return manager;
    } catch (error) {
      await manager.stop();
      if (how.kind === 'join' || manager.#ownsData) Manager.forget(options.stateDir);
      throw error;
    }
  }

  /** Whether a directory holds the data of a manager that can be restarted. */
  static hasState(stateDir: string): boolean {
    return hasWal(join(stateDir, 'raft'));
  }

  /**
   * Whether a node with a manager's certificate has not begun to take part yet: it may join. One that has lost its log may
   * not: it has promised things that it does not remember.
   */
  static isNew(stateDir: string, identities: IdentityStore): boolean {
    return !Manager.hasState(stateDir) && !DataKeys.hasBegun(identities);
  }

  /** Discards the data of a manager that is no member any more, and the keys of its log when it is told where they are. */
  static forget(stateDir: string, identities?: IdentityStore): void {
    removeWal(join(stateDir, 'raft'));
    rmSync(join(stateDir, 'raft'), { recursive: true, force: true });
    if (identities?.state === 'open') DataKeys.forget(identities);
  }

  async #start(how: ManagerStart): Promise<void> {
    const { server } = this.#parts;
    const port = await server.listen(this.#options.listenAddr);
    this.#parts.self.addr = withPort(this.#options.advertiseAddr, port);
    this.#options.log.info('manager listens', {
      listenAddr: this.#options.listenAddr,
      advertiseAddr: this.#parts.self.addr,
      dataPathAddr: this.#options.dataPathAddr,
      start: how.kind,
    });
    switch (how.kind) {
      case 'bootstrap':
        await this.#bootstrap();
        return;
      case 'join':
        await this.#join(how.remoteAddr);
        return;
      case 'restart':
        await this.#restart();
        return;
      case 'force-new-cluster':
        await this.#forceNewCluster();
        return;
      case 'restore':
        await this.#restore(how.image);
        return;
      default:
        unreachable(how);
    }
  }

  #selfMember(raftId: number): Member {
    return { raftId, nodeId: this.#options.identity.nodeId, addr: this.#parts.self.addr };
  }

  async #consensus(raftId: number, members: readonly Member[], how: StartMode): Promise<void> {
    const { members: list, startConsensus, dataKeys, keyKeeper } = this.#parts;
    list.seed(members);
    if (how.kind === 'bootstrap' || how.kind === 'join') dataKeys.begin();
    else dataKeys.resume();
    await startConsensus(raftId, how);
    dataKeys.confirm();
    keyKeeper.start();
  }

  /** This manager as the first member of a log that does not exist yet. */
  #firstMember(): Member {
    const { stateDir, random } = this.#options;
    if (Manager.hasState(stateDir)) {
      throw new ShoalError('FailedPrecondition', `${stateDir} already holds a manager's data; leave the swarm first`);
    }
    this.#ownsData = true;
    const member = this.#selfMember(1 + random.int(Number.MAX_SAFE_INTEGER - 1));
    saveMemberFile(stateDir, { raftId: member.raftId, members: [member] });
    return member;
  }

  async #bootstrap(): Promise<void> {
    const { clusterInit } = this.#options;
    if (clusterInit === undefined) throw new ShoalError('InvalidArgument', 'a new cluster needs its settings');
    const member = this.#firstMember();
    await this.#consensus(member.raftId, [member], { kind: 'bootstrap', member: memberMessage(member) });
    await this.#until(
      'the new cluster was not set up in time',
      () => this.isLeader() && clusterOf(this.store.view()) !== undefined,
    );
  }

  async #restore(image: RestoreImage): Promise<void> {
    this.#parts.self.grace.begin(image.awaitMs);
    const member = this.#firstMember();
    await this.recovery.restored(image, member, {
      start: () => this.#consensus(member.raftId, [member], { kind: 'join' }),
      ready: () => this.#until('the restored cluster did not start in time', () => this.isLeader()),
    });
  }

  async #join(remoteAddr: string): Promise<void> {
    const { stateDir, identity } = this.#options;
    const { clients, self } = this.#parts;
    splitAddress(remoteAddr);
    const request = JoinRequest.create({ addr: self.addr });
    const call = { timeoutMs: JOIN_TIMEOUT_MS };
    const response = await callUnary(clients.to(remoteAddr), RaftMembershipService.Join, request, call);
    Manager.forget(stateDir);
    const members = response.members.map((one) => ({ raftId: one.raft_id, nodeId: one.node_id, addr: one.addr }));
    self.addr = members.find((member) => member.nodeId === identity.nodeId)?.addr ?? self.addr;
    saveMemberFile(stateDir, { raftId: response.raft_id, members });
    await this.#consensus(response.raft_id, members, { kind: 'join' });
    await this.#until('the leader did not make this manager a voter in time', () => {
      const status = this.#parts.consensus()?.status();
      const voter = status?.voters.includes(response.raft_id) === true && status.leaderId !== 0;
      return voter && clusterOf(this.store.view()) !== undefined;
    });
  }

  async #restart(): Promise<void> {
    this.#parts.self.grace.begin();
    const file = loadMemberFile(this.#options.stateDir);
    const { self, addresses } = this.#parts;
    const before = file.members.find((member) => member.raftId === file.raftId);
    // The leader completed an address without a host when this manager joined.
    if (before !== undefined) self.addr = completeAddress(self.addr, before.addr);
    await this.#consensus(file.raftId, file.members, { kind: 'restart' });
    // If it is a new one, the others learn it from this manager's streams to them, and the leader puts it into the log.
    addresses.learn(file.raftId, self.addr);
  }

  async #forceNewCluster(): Promise<void> {
    this.#parts.self.grace.begin();
    const file = loadMemberFile(this.#options.stateDir);
    const member = memberMessage(this.#selfMember(file.raftId));
    this.#forced = true;
    await this.recovery.forced(file.raftId, {
      start: () => this.#consensus(file.raftId, file.members, { kind: 'force-new-cluster', member }),
      ready: () => this.#until('the new cluster did not start in time', () => this.isLeader() && !this.#forced),
    });
  }

  /** What must be in the store before the duties of a term begin. */
  async #prepareTerm(): Promise<void> {
    const { identity, clusterInit, random, dataPathAddr } = this.#options;
    if (clusterOf(this.store.view()) === undefined && clusterInit !== undefined) {
      const init = { ...clusterInit, nodeAddr: dataPathAddr };
      await this.store.update((tx) => createCluster(tx, identity, init, random));
    }
    if (!this.#forced) return;
    await this.store.update((tx) => demoteOthers(tx, identity.nodeId));
    this.#forced = false;
  }

  async #until(failure: string, ready: () => boolean): Promise<void> {
    const { clock } = this.#options;
    const endMs = clock.monotonic() + READY_TIMEOUT_MS;
    while (!ready()) {
      if (this.#stopping !== undefined) throw unavailable('the manager is stopping');
      if (clock.monotonic() > endMs) throw unavailable(`${failure} (${READY_TIMEOUT_MS} ms)`);
      await clock.sleep(READY_POLL_MS);
    }
  }

  /** The replicated state as this manager has it. */
  get store(): Store {
    return this.#parts.store;
  }

  get nodeId(): string {
    return this.#options.identity.nodeId;
  }

  /** `host:port` at which others know this manager. */
  get advertiseAddr(): string {
    return this.#parts.self.addr;
  }

  isLeader(): boolean {
    return this.#parts.leadership.leading;
  }

  /**
   * One call of the Control service: here while this manager leads, else on the leader. Waits a moment for a leader
   * while one is being elected.
   * @throws ShoalError with a message fit for users; Unavailable "The swarm does not have a leader. …".
   */
  call<Name extends keyof typeof ControlService>(
    name: Name,
    request: RequestOf<(typeof ControlService)[Name]>,
  ): Promise<ResponseOf<(typeof ControlService)[Name]>> {
    type Request = RequestOf<(typeof ControlService)[Name]>;
    type Response = ResponseOf<(typeof ControlService)[Name]>;
    const method = ControlService[name] as unknown as MethodDescription<Request, Response>;
    const here = this.#parts.confirmedControl[name] as unknown as (request: Request) => Promise<Response>;
    // Reads may be asked twice; a write whose outcome is not known may not.
    const repeatable = isRead(name);
    return this.#leaderAccess.call(method, request, here, repeatable);
  }

  /**
   * The key that unlocks managers; null without autolock. Without a leader it is the one that this manager is locked by: it
   * may be needed to bring back the quorum.
   * @throws ShoalError Unavailable when there is no leader, and no lock here
   */
  async unlockKey(): Promise<Uint8Array | null> {
    const { authority } = this.#parts;
    const request = GetUnlockKeyRequest.create();
    const here = async (): Promise<ReturnType<typeof authority.getUnlockKey>> => authority.getUnlockKey();
    try {
      const { unlock_key: secret } = await this.#leaderAccess.call(CAService.GetUnlockKey, request, here, true);
      return secret.length === 0 ? null : secret;
    } catch (error) {
      const { secret } = this.#options.identities.lock;
      if (!isShoalError(error, 'Unavailable') || secret === null) throw error;
      return secret;
    }
  }

  /** Lines of service logs, from the leader's broker. @throws ShoalError */
  subscribeLogs(request: SubscribeLogsRequest, signal: AbortSignal): AsyncIterable<SubscribeLogsMessage> {
    return this.#leaderAccess.subscribeLogs(request, signal);
  }

  /** Proofs of networks by the hosts that have tasks on them. @throws ShoalError */
  checkNetworks(request: CheckNetworksRequest): Promise<CheckNetworksResponse> {
    const { networkChecker: checker } = this.#parts;
    return this.#leaderAccess.call(NetworkChecksService.CheckNetworks, request, (asked) => checker.check(asked), true);
  }

  /** Who leads, and what is known of every manager. */
  status(): ManagerState {
    return managerStatuses(this.#parts);
  }

  /** What this manager does as the leader, since when, and what does not end or had to start again. */
  leadershipStatus(): LeadershipStatus {
    return this.#parts.leadership.status();
  }

  /** From now on connections use this identity (a renewed certificate, a rotated root). */
  updateIdentity(identity: NodeIdentity): void {
    this.#parts.tls.update(identity);
  }

  /**
   * Leaves consensus for good; the lead is handed over first. Then stop this manager and `forget` its data.
   * @throws ShoalError FailedPrecondition when it is the last manager or a quorum would be lost; Unavailable.
   */
  async leave(): Promise<void> {
    await leaveConsensus(this.#parts, this.#leaderAccess, this.#options.clock);
  }

  /** Hands the lead over if there is somebody to take it, ends all calls and duties, closes the log. Idempotent. */
  stop(): Promise<void> {
    this.#stopping ??= this.#stop();
    return this.#stopping;
  }

  async #stop(): Promise<void> {
    await stopParts(this.#parts, this.#options.log);
  }
}
