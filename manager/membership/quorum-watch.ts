import { connect } from 'node:net';
import { TaskGroup, type Clock, type Logger } from '../../base/index.ts';
import type { Member } from './member-list.ts';
import { quorumOf } from './quorum.ts';
import { splitAddress } from './service.ts';

/** Time between two looks, ms. */
const PASS_MS = 250;
/** Time for a manager to take a connection, ms. */
const PROBE_TIMEOUT_MS = 1_000;
/** A manager that was heard of within this time is there; shorter than the shortest election timeout, ms. */
const HEARD_WITHIN_MS = 400;
/** As long as the longest election timeout: until then another manager may still come to lead, ms. */
const ELECTION_MS = 1_000;

/** Why nothing answers at an address; undefined when somebody does. */
export type Probe = (addr: string, timeoutMs: number) => Promise<string | undefined>;

/** A manager that this one cannot reach. */
export interface LostManager extends Member {
  /** When this manager first missed it, Unix ms. */
  readonly sinceMs: number;
  /** In words: "connection refused". */
  readonly reason: string;
}

/** Fewer than a quorum of the managers can be reached from here: nobody whom this manager would know can lead. */
export interface QuorumLoss {
  readonly voters: number;
  /** This manager included. */
  readonly reachable: number;
  readonly needed: number;
  readonly lost: readonly LostManager[];
}

export interface QuorumWatchDeps {
  clock: Clock;
  log: Logger;
  /** Members with a vote, this one included; empty until consensus has started. */
  voters: () => readonly Member[];
  /** Raft id of this manager. */
  self: () => number;
  /** Raft id of the leader that is known, this manager included; 0 without one. */
  leaderId: () => number;
  /** Told once for each change; the last leader is undefined when none was known in this process. */
  onLeader?: (leader: 'found' | LastLeader) => void;
  probe?: Probe;
}

/** The leader that this manager followed, or was, until there was none. */
export interface LastLeader {
  readonly raftId: number;
  readonly nodeId: string;
  readonly addr: string;
  /** Last message from it, Unix ms. */
  readonly heardMs: number;
}

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'connection refused: the host is up, no manager listens there',
  EHOSTUNREACH: 'no route to the host: it is off, or the network is cut',
  ENETUNREACH: 'no route to its network',
  ENOTFOUND: 'its name cannot be resolved',
};

/** Tries to connect by TCP. */
export const probeTcp: Probe = (addr, timeoutMs) =>
  new Promise((resolve) => {
    const { host, port } = splitAddress(addr);
    const socket = connect({ host, port });
    const end = (reason: string | undefined): void => {
      socket.destroy();
      resolve(reason);
    };
    socket.setTimeout(timeoutMs, () => end(`no answer within ${timeoutMs} ms: the host is off, or the network is cut`));
    socket.on('connect', () => end(undefined));
    socket.on('error', (error: NodeJS.ErrnoException) => end(REASONS[error.code ?? ''] ?? error.message));
  });

/**
 * Watches, while there is no leader, which other managers can be reached, so that calls are refused at once, and with
 * reasons, when it is known that no leader can exist. Costs nothing while there is one.
 */
export class QuorumWatch {
  readonly #deps: QuorumWatchDeps;
  readonly #probe: Probe;
  readonly #group: TaskGroup;
  readonly #heardMs = new Map<number, number>();
  readonly #lost = new Map<number, { sinceMs: number; reason: string }>();
  /** The leader of the last look; undefined when there was none. */
  #leader: LastLeader | undefined;
  #known: 'found' | 'none' | undefined;
  /** Monotonic time since when no leader is known. */
  #noneSinceMs: number | undefined;
  /** Monotonic time since when too few are reachable. */
  #lostSinceMs: number | undefined;

  constructor(deps: QuorumWatchDeps) {
    this.#deps = deps;
    this.#probe = deps.probe ?? probeTcp;
    this.#group = new TaskGroup(deps.log);
  }

  start(): void {
    this.#group.start('quorum watch', (signal) => this.#run(signal));
  }

  async stop(): Promise<void> {
    await this.#group.stop();
    if (!this.#hasLeader()) this.#noteLoss();
  }

  /** A message of this member has arrived. */
  heard(raftId: number): void {
    this.#heardMs.set(raftId, this.#deps.clock.monotonic());
    if (this.#lost.delete(raftId)) this.#judge();
  }

  /** Set when it is known that no leader can exist; undefined while there is one, or may soon be. */
  loss(): QuorumLoss | undefined {
    const { clock } = this.#deps;
    if (this.#lostSinceMs === undefined || this.#hasLeader()) return undefined;
    return clock.monotonic() - this.#lostSinceMs < ELECTION_MS ? undefined : this.#state();
  }

  /** Managers that cannot be reached now, however many; empty while there is a leader. */
  unreachable(): readonly LostManager[] {
    return this.#hasLeader() ? [] : this.#state().lost;
  }

  #hasLeader(): boolean {
    return this.#deps.leaderId() !== 0;
  }

  #state(): QuorumLoss {
    const voters = this.#deps.voters();
    const lost = voters.flatMap((member): LostManager[] => {
      const found = this.#lost.get(member.raftId);
      return found === undefined ? [] : [{ ...member, ...found }];
    });
    return { voters: voters.length, reachable: voters.length - lost.length, needed: quorumOf(voters.length), lost };
  }

  #judge(): void {
    const { voters, reachable, needed } = this.#state();
    if (voters === 0 || reachable >= needed) this.#lostSinceMs = undefined;
    else this.#lostSinceMs ??= this.#deps.clock.monotonic();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps;
    while (!signal.aborted) {
      this.#noteLeader();
      if (this.#hasLeader()) {
        this.#lost.clear();
        this.#lostSinceMs = undefined;
      } else await this.#pass();
      await clock.sleep(PASS_MS, signal).catch(() => undefined);
    }
  }

  #noteLeader(): void {
    const { leaderId, self, voters, clock, onLeader } = this.#deps;
    const id = leaderId();
    if (id === 0) {
      this.#noneSinceMs ??= clock.monotonic();
      // Not before the election is over: the listener writes to the disk.
      if (clock.monotonic() - this.#noneSinceMs >= 2 * ELECTION_MS) this.#noteLoss();
      return;
    }
    this.#noneSinceMs = undefined;
    const heardMs = id === self() ? undefined : this.#heardMs.get(id);
    const agoMs = heardMs === undefined ? 0 : clock.monotonic() - heardMs;
    const { nodeId = '', addr = '' } = voters().find((member) => member.raftId === id) ?? {};
    this.#leader = { raftId: id, nodeId, addr, heardMs: Math.round(clock.now() - agoMs) };
    if (this.#known !== 'found') onLeader?.('found');
    this.#known = 'found';
  }

  #noteLoss(): void {
    if (this.#known === 'found' && this.#leader !== undefined) this.#deps.onLeader?.(this.#leader);
    this.#known = 'none';
  }

  async #pass(): Promise<void> {
    const { voters, self, log } = this.#deps;
    const before = this.#lostSinceMs;
    const others = voters().filter((member) => member.raftId !== self());
    await Promise.all(others.map((member) => this.#look(member)));
    for (const raftId of this.#lost.keys()) {
      if (!others.some((member) => member.raftId === raftId)) this.#lost.delete(raftId);
    }
    this.#judge();
    if (before !== undefined || this.#lostSinceMs === undefined) return;
    log.warn('too few managers can be reached for a leader', { ...this.#state() });
  }

  async #look(member: Member): Promise<void> {
    const { clock } = this.#deps;
    const heardMs = this.#heardMs.get(member.raftId);
    if (heardMs !== undefined && clock.monotonic() - heardMs < HEARD_WITHIN_MS) {
      this.#lost.delete(member.raftId);
      return;
    }
    const reason = await this.#probe(member.addr, PROBE_TIMEOUT_MS).catch((error: unknown) => String(error));
    if (reason === undefined) this.#lost.delete(member.raftId);
    else this.#lost.set(member.raftId, { sinceMs: this.#lost.get(member.raftId)?.sinceMs ?? clock.now(), reason });
  }
}
