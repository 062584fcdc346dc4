import { errorMessage, must, ShoalError, unavailable, type Clock, type Logger, type Random } from '../base/index.ts';
import type { SwarmInitRequest, SwarmJoinRequest } from '../api/index.ts';
import { issuerInfo, loadIdentity, removeIdentity, requestCertificate, saveIdentity } from '../identity/index.ts';
import { createBootstrapIdentity, Manager } from '../manager/index.ts';
import type { HostNetworks } from '../overlay-net/index.ts';
import { NodeSpec_Availability } from '../proto/index.ts';
import type { Executor } from '../worker/index.ts';
import { addressTowards, advertiseAddress, joinHostPort, listenAddress, splitHostPort } from './addresses.ts';
import { Member } from './member.ts';
import { SwarmFiles, type KnownManager, type SwarmSettings } from './swarm-files.ts';
import { leaveRefusal, NOT_IN_SWARM, notManager, type LocalState } from './swarm-words.ts';

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

const AVAILABILITY: Readonly<Record<string, NodeSpec_Availability>> = {
  '': NodeSpec_Availability.ACTIVE,
  active: NodeSpec_Availability.ACTIVE,
  pause: NodeSpec_Availability.PAUSE,
  drain: NodeSpec_Availability.DRAIN,
};

function availability(word: string): NodeSpec_Availability {
  const value = AVAILABILITY[word];
  if (value === undefined) {
    throw new ShoalError(
      'InvalidArgument',
      `invalid availability "${word}", only "active", "pause" and "drain" are supported`,
    );
  }
  return value;
}

/** This host's place in a swarm. Verbs run one at a time. */
export class ClusterNode {
  readonly #options: ClusterOptions;
  readonly #files: SwarmFiles;
  #state: LocalState = 'inactive';
  #error = '';
  #member: Member | undefined;
  #busy = false;

  constructor(options: ClusterOptions) {
    this.#options = options;
    this.#files = new SwarmFiles(options.dataRoot);
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
      const settings = this.#files.settings();
      const identity = loadIdentity(this.#files.dir);
      if (settings === undefined || identity === undefined) return;
      const member = this.#newMember(settings);
      await member.start(identity, { kind: 'restart' });
      this.#member = member;
      this.#state = 'active';
    } catch (error) {
      this.#state = 'error';
      this.#error = errorMessage(error);
      this.#options.log.error('this node cannot take up its place in the swarm', { error });
    }
  }

  async stop(): Promise<void> {
    await this.#member?.stop();
  }

  #newMember(settings: SwarmSettings): Member {
    return new Member({
      ...this.#options,
      files: this.#files,
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
      if (request.forceNewCluster) return await this.#forceNewCluster();
      this.#refuseIfMember();
      if (request.autoLockManagers) {
        throw new ShoalError(
          'Unimplemented',
          'autolock is not supported by this version of Shoal: leave out --autolock',
        );
      }
      const { clock, random } = this.#options;
      const settings = this.#settings(request, request.dataPathPort);
      const wanted = availability(request.availability);
      const { identity, rootCa } = createBootstrapIdentity({ nowMs: clock.now(), random });
      const clusterInit = Member.clusterInit({ ...request, availability: wanted, rootCa });
      await this.#begin(settings, async (member) => {
        saveIdentity(this.#files.dir, identity);
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
      const local = await addressTowards(remoteAddr, CONNECT_TIMEOUT_MS);
      const advertiseAddr = request.advertiseAddr || this.#options.defaultAdvertiseAddr || local;
      const settings = this.#settings({ ...request, advertiseAddr }, 0);
      await this.#begin(settings, async (member) => {
        const { clock, random, log } = this.#options;
        const identity = await requestCertificate({
          remoteAddr,
          token: request.joinToken,
          availability: wanted,
          identityDir: this.#files.dir,
          clock,
          random,
          log,
          timeoutMs: JOIN_TIMEOUT_MS,
        });
        await member.start(identity, { kind: 'join', remoteAddr });
        await member.waitUntilConnected(JOIN_TIMEOUT_MS);
      });
    });
  }

  /** Ends the membership. @throws ShoalError Unavailable, in Docker's words, when more than `force` is at stake */
  leave(force: boolean): Promise<void> {
    return this.#exclusive(async () => {
      if (this.#state === 'inactive') throw unavailable(NOT_IN_SWARM);
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
    await this.#member?.clear();
    this.#member = undefined;
    Manager.forget(this.#files.dir);
    removeIdentity(this.#files.dir);
    this.#files.remove();
    this.#state = 'inactive';
    this.#error = '';
  }

  /** Goes on as the only manager after the loss of a majority. */
  async #forceNewCluster(): Promise<string> {
    const settings = this.#files.settings();
    const identity = loadIdentity(this.#files.dir);
    if (settings === undefined || identity?.role !== 'manager' || !Manager.hasState(this.#files.dir)) {
      throw unavailable('This node is no manager with data of a swarm: --force-new-cluster needs one that survived.');
    }
    await this.#member?.stop();
    const member = this.#newMember(settings);
    this.#member = member;
    await member.start(identity, { kind: 'force-new-cluster' });
    this.#state = 'active';
    this.#error = '';
    return identity.nodeId;
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
