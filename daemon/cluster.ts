import {
  errorMessage,
  failedPrecondition,
  must,
  ShoalError,
  unavailable,
  type Clock,
  type Logger,
  type Random,
} from '../base/index.ts';
import type { SwarmInitRequest, SwarmJoinRequest, SwarmRestoreRequest } from '../api/index.ts';
import { fetchLock, IdentityStore, issuerInfo, NO_LOCK, requestCertificate } from '../identity/index.ts';
import {
  checkAddressPools,
  checkedNodeLabels,
  createBootstrapIdentity,
  formatUnlockKey,
  Manager,
  parseUnlockKey,
  readRestoreImage,
  UNLOCK_KEY_BYTES,
} from '../manager/index.ts';
import type { HostNetworks } from '../overlay-net/index.ts';
import type { Executor } from '../worker/index.ts';
import { addressTowards, advertiseAddress, joinHostPort, listenAddress, splitHostPort } from './addresses.ts';
import { Member } from './member.ts';
import { SwarmFiles, type KnownManager, type SwarmSettings } from './swarm-files.ts';
import {
  availability,
  leaveRefusal,
  LEAVE_LOCKED,
  NO_SURVIVOR,
  NOT_IN_SWARM,
  notManager,
  otherManagersAlive,
  REJOIN_MANAGER,
  type LocalState,
} from './swarm-words.ts';

/** Longest time for a join until the node takes part, ms (the docker client waits 20 s). */
const JOIN_TIMEOUT_MS = 20_000;
const CONNECT_TIMEOUT_MS = 5_000;

/** What `swarm init` asks for; the spec in the manager's terms. */
export type InitRequest = Omit<SwarmInitRequest, 'spec'> & {
  /** Completes the spec of a new cluster. */
  spec: Parameters<typeof Member.clusterInit>[0]['spec'];
};

export interface ClusterOptions {
  dataRoot: string;
  defaultAdvertiseAddr: string;
  executor: Executor;
  networks: HostNetworks;
  clock: Clock;
  random: Random;
  log: Logger;
  /** A manager runs on this node from now on. */
  onManager: (manager: Manager) => void;
}

/** This host's place in a swarm. Verbs run one at a time. */
export class ClusterNode {
  readonly #options: ClusterOptions;
  readonly #files: SwarmFiles;
  readonly #identities: IdentityStore;
  #state: LocalState = 'inactive';
  #error = '';
  #member: Member | undefined;
  #busy = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#files = new SwarmFiles(options.dataRoot);
    this.#identities = new IdentityStore(this.#files.dir);
  }

  get state(): LocalState {
    return this.#state;
  }

  get error(): string {
    return this.#error || (this.#member?.error ?? '');
  }

  get member(): Member | undefined {
    return this.#member;
  }

  remoteManagers(): KnownManager[] {
    return this.#member?.managers() ?? [];
  }

  /** Takes up the membership of an earlier life. A fault puts the node into state error; the daemon runs on. */
  async start(): Promise<void> {
    try {
      if (this.#identities.load() === 'locked') {
        this.#state = 'locked';
        this.#options.log.warn('this manager is locked: containers go on, the swarm waits for "docker swarm unlock"');
        return;
      }
      await this.#resume();
    } catch (error) {
      this.#failed(error);
    }
  }

  #failed(error: unknown): void {
    this.#state = 'error';
    this.#error = errorMessage(error);
    this.#options.log.error('this node cannot take up its place in the swarm', { error });
  }

  /** Goes on with the stored membership, if there is one. */
  async #resume(): Promise<void> {
    const settings = this.#files.settings();
    const { identity } = this.#identities;
    if (settings === undefined || identity === undefined) return;
    const member = this.#newMember(settings);
    // Known while it starts: what the agent says of this node comes from it.
    this.#member = member;
    try {
      await member.start(identity, { kind: 'restart' });
      this.#state = 'active';
    } catch (error) {
      await member.stop();
      this.#member = undefined;
      throw error;
    }
  }

  /**
   * Starts a locked manager.
   * @throws ShoalError in Docker's words: Conflict when nothing is locked, Unauthenticated when the key is another
   */
  unlock(key: string): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#state !== 'locked') throw new ShoalError('Conflict', 'swarm is not locked');
      if (!this.#identities.unlock(parseUnlockKey(key))) {
        throw new ShoalError('Unauthenticated', 'swarm could not be unlocked: invalid key provided');
      }
      try {
        await this.#resume();
      } catch (error) {
        this.#failed(error);
        throw error;
      }
    });
  }

  /** The key that unlocks managers, as users see it; empty without autolock. */
  async unlockKey(): Promise<string> {
    const secret = await this.manager().unlockKey();
    return secret === null ? '' : formatUnlockKey(secret);
  }

  async stop(): Promise<void> {
    await this.#member?.stop();
  }

  #newMember(settings: SwarmSettings): Member {
    return new Member({
      ...this.#options,
      files: this.#files,
      identities: this.#identities,
      settings,
      onFatal: (error) => {
        this.#state = 'error';
        this.#error = errorMessage(error);
      },
      onRecovered: () => {
        this.#state = 'active';
        this.#error = '';
      },
      onExpelled: () => void this.#expelled(),
    });
  }

  /** This node was removed from the swarm: what it ran for the swarm ends, and it may join again. */
  async #expelled(): Promise<void> {
    this.#options.log.warn('this node was removed from the swarm');
    await this.#exclusive(() => this.#forget()).catch((error: unknown) => {
      this.#options.log.error('the membership could not be cleared', { error });
    });
  }

  async #exclusive<T>(run: () => Promise<T>): Promise<T> {
    if (this.#busy) throw unavailable('another swarm operation is in progress: try again when it has ended');
    this.#busy = true;
    try {
      return await run();
    } finally {
      this.#busy = false;
    }
  }

  #refuseIfMember(): void {
    if (this.#state === 'inactive') return;
    throw unavailable(
      'This node is already part of a swarm. Use "docker swarm leave" to leave this swarm and join another one.',
    );
  }

  /** Makes a new swarm with this node as its first manager; resolves with the node's id. */
  init(request: InitRequest): Promise<string> {
    return this.#exclusive(async () => {
      if (request.forceNewCluster) return await this.#forceNewCluster(request);
      this.#refuseIfMember();
      const { clock, random } = this.#options;
      const settings = this.#settings(request, request.dataPathPort);
      const wanted = availability(request.availability);
      checkedNodeLabels(request.nodeLabels);
      checkAddressPools({ pools: request.defaultAddrPool, subnetPrefix: request.subnetSize });
      const { identity, rootCa } = createBootstrapIdentity({ nowMs: clock.now(), random });
      const autolock = request.autoLockManagers || request.spec?.encryption_config?.auto_lock_managers === true;
      const unlockKey = autolock ? random.bytes(UNLOCK_KEY_BYTES) : undefined;
      const spec = { ...request.spec, encryption_config: { auto_lock_managers: autolock } };
      const clusterInit = Member.clusterInit({ ...request, spec, availability: wanted, rootCa, unlockKey });
      await this.#begin(settings, async (member) => {
        this.#identities.save(identity, { lock: { secret: unlockKey ?? null, version: 0 } });
        await member.start(identity, { kind: 'bootstrap', clusterInit });
        await member.waitUntilConnected(JOIN_TIMEOUT_MS);
      });
      return identity.nodeId;
    });
  }

  #settings(
    request: Pick<InitRequest, 'listenAddr' | 'advertiseAddr' | 'dataPathAddr'>,
    dataPathPort: number,
  ): SwarmSettings {
    const listenAddr = listenAddress(request.listenAddr);
    const wanted = request.advertiseAddr || this.#options.defaultAdvertiseAddr;
    const advertiseAddr = advertiseAddress(wanted, listenAddr);
    const dataPath = request.dataPathAddr;
    if (dataPathPort !== 0 && (dataPathPort < 1024 || dataPathPort > 49_151)) {
      throw new ShoalError('InvalidArgument', `invalid data path port ${dataPathPort}: 1024 to 49151 are allowed`);
    }
    return {
      listenAddr,
      advertiseAddr,
      dataPathAddr: dataPath === '' ? '' : splitHostPort(advertiseAddress(dataPath, listenAddr), 1).host,
      dataPathPort,
    };
  }

  /** Runs the beginning of a membership; leaves nothing behind when it fails. */
  async #begin(settings: SwarmSettings, run: (member: Member) => Promise<void>): Promise<void> {
    this.#state = 'pending';
    this.#error = '';
    const member = this.#newMember(settings);
    this.#member = member;
    try {
      this.#files.saveSettings(settings);
      await run(member);
      this.#state = 'active';
    } catch (error) {
      await this.#forget();
      throw error;
    }
  }

  /** Joins a swarm by token; resolves when this node takes part in it. */
  join(request: SwarmJoinRequest): Promise<void> {
    return this.#exclusive(async () => {
      this.#refuseIfMember();
      const first = request.remoteAddrs[0];
      if (first === undefined || first === '') {
        throw new ShoalError('InvalidArgument', 'the address of a manager is needed: docker swarm join HOST:PORT');
      }
      const { host, port } = splitHostPort(first, 2377);
      const remoteAddr = joinHostPort(host, port);
      const wanted = availability(request.availability);
      checkedNodeLabels(request.nodeLabels);
      const local = await addressTowards(remoteAddr, CONNECT_TIMEOUT_MS);
      const advertiseAddr = request.advertiseAddr || this.#options.defaultAdvertiseAddr || local;
      const settings = this.#settings({ ...request, advertiseAddr }, 0);
      await this.#begin(settings, async (member) => {
        const { clock, random, log } = this.#options;
        const common = { remoteAddr, clock, random, log, timeoutMs: JOIN_TIMEOUT_MS };
        const { joinToken: token, nodeLabels } = request;
        const identity = await requestCertificate({ ...common, token, availability: wanted, nodeLabels });
        const lock = identity.role === 'manager' ? await fetchLock({ ...common, identity }) : NO_LOCK;
        this.#identities.save(identity, { lock });
        await member.start(identity, { kind: 'join', remoteAddr });
        await member.waitUntilConnected(JOIN_TIMEOUT_MS);
      });
    });
  }

  /** Ends the membership. @throws ShoalError Unavailable, in Docker's words, when more than `force` is at stake */
  leave(force: boolean): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#state === 'inactive') throw unavailable(NOT_IN_SWARM);
      if (this.#state === 'locked' && !force) throw unavailable(LEAVE_LOCKED);
      const manager = this.#member?.manager;
      if (manager !== undefined) {
        const status = manager.status();
        if (!force) throw unavailable(leaveRefusal(status.managers));
        // A manager that leaves in order costs the others no quorum; one that cannot is left to its force.
        if (status.managers.length > 1) {
          await manager.leave().catch((error: unknown) => {
            this.#options.log.warn('this manager leaves without being taken out of the raft group', { error });
          });
        }
      }
      await this.#forget();
    });
  }

  /** Ends and clears everything of the membership. */
  async #forget(): Promise<void> {
    await this.#member?.stop();
    this.#member = undefined;
    await this.#options.executor.removeOrphans(new Set());
    await this.#options.networks.leaveUnderlay();
    Manager.forget(this.#files.dir);
    this.#identities.remove();
    this.#files.remove();
    this.#state = 'inactive';
    this.#error = '';
  }

  /** Goes on as the only manager after the loss of a majority; an advertised address that is given takes effect. */
  async #forceNewCluster(request: InitRequest): Promise<string> {
    const stored = this.#files.settings();
    if (this.#state === 'locked') throw unavailable(notManager('locked', ''));
    const { identity } = this.#identities;
    if (stored === undefined || identity?.role !== 'manager' || !Manager.hasState(this.#files.dir)) {
      throw unavailable(NO_SURVIVOR);
    }
    const others = otherManagersAlive(this.#member?.manager?.status());
    if (others !== undefined) throw failedPrecondition(others);
    const settings = request.advertiseAddr === '' ? stored : { ...stored, ...this.#settings(request, 0) };
    await this.#member?.stop();
    if (settings !== stored) this.#files.saveSettings(settings);
    const member = this.#newMember(settings);
    this.#member = member;
    try {
      await member.start(identity, { kind: 'force-new-cluster' });
    } catch (error) {
      this.#failed(error);
      throw error;
    }
    this.#state = 'active';
    this.#error = '';
    return identity.nodeId;
  }

  /** Begins a new cluster with what a backup holds; resolves with this node's new id. @throws ShoalError */
  restore(body: AsyncIterable<Uint8Array>, request: SwarmRestoreRequest): Promise<string> {
    return this.#exclusive(async () => {
      this.#refuseIfMember();
      const { clock, random } = this.#options;
      const wanted = availability(request.availability);
      const how = { nowMs: clock.now(), random, availability: wanted, awaitMs: request.awaitMs };
      const addresses = this.#settings(request, 0);
      const image = await readRestoreImage(body, request.passphrase, how);
      await this.#begin({ ...addresses, dataPathPort: image.dataPathPort }, async (member) => {
        this.#identities.save(image.identity, { lock: image.lock });
        await member.start(image.identity, { kind: 'restore', image });
        await member.waitUntilConnected(JOIN_TIMEOUT_MS);
      });
      return image.identity.nodeId;
    });
  }

  /** Tells the agent of this worker where managers are now: after a restore with other addresses. @throws ShoalError */
  async rejoin(remoteAddrs: readonly string[]): Promise<void> {
    if (this.#state === 'inactive' || this.#member === undefined) throw unavailable(NOT_IN_SWARM);
    if (this.#member.manager !== undefined) throw failedPrecondition(REJOIN_MANAGER);
    const addresses = remoteAddrs.map((addr) => {
      const { host, port } = splitHostPort(addr, 2377);
      return joinHostPort(host, port);
    });
    await this.#member.rejoin(addresses, JOIN_TIMEOUT_MS);
  }

  /** The manager on this node. @throws ShoalError Unavailable in Docker's words when there is none */
  manager(): Manager {
    const manager = this.#member?.manager;
    if (manager !== undefined) return manager;
    throw unavailable(notManager(this.#state, this.error));
  }

  /** Subject and key of the certificate that signs nodes. */
  issuer(): { subject: Uint8Array; publicKey: Uint8Array } {
    return issuerInfo(must(this.#member?.identity, 'identity of a member').rootCa);
  }

  get nodeId(): string {
    return this.#member?.identity?.nodeId ?? '';
  }

  get nodeAddr(): string {
    const addr = this.#member?.settings.advertiseAddr ?? '';
    return addr === '' ? '' : splitHostPort(addr, 1).host;
  }
}
