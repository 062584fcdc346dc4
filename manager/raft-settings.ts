import { invalidArgument, type Logger } from '../base/index.ts';
import type { RaftConfig } from '../proto/index.ts';
import {
  DEFAULT_KEEP_ENTRIES,
  DEFAULT_SNAPSHOT_ENTRIES,
  DEFAULT_TICKS,
  type RaftNode,
  type RaftTicks,
} from '../raft/index.ts';
import type { Change, Store } from './store/types.ts';

/** Length of a tick, ms: below it timers are too coarse, above it nothing is gained. */
const TICK_MIN_MS = 10;
const TICK_MAX_MS = 1_000;
/** Silence after which managers elect a new leader, ms. */
const ELECTION_MIN_MS = 100;
const ELECTION_MAX_MS = 60_000;
/** Heartbeats that must fit into that silence. */
const HEARTBEATS_PER_ELECTION = 2;
const SNAPSHOT_INTERVAL_MAX = 1_000_000_000;
/**
 * Nodes for which a leader has time between its heartbeats whatever happens. With more, managers wait longer for a silent
 * one before they elect another, in whole steps: an election that nobody needed costs all agents their sessions.
 */
const NODES_PER_ELECTION_STEP = 1_250;
const ELECTION_STEPS_MAX = 6;
/** Entries kept in memory for slow managers. */
const SLOW_FOLLOWER_ENTRIES_MAX = 1_000_000;
export const OLD_SNAPSHOTS_MAX = 1_000;

/** What the cluster's settings mean for the consensus of one manager. */
export interface RaftSettings extends RaftTicks {
  snapshotEntries: number;
  keepEntries: number;
  keepSnapshots: number;
}

/** Times the silence that the settings name which managers wait, in a cluster of so many nodes. */
export function electionSteps(nodes: number): number {
  return Math.min(ELECTION_STEPS_MAX, Math.max(1, Math.ceil(nodes / NODES_PER_ELECTION_STEP)));
}

/** Zero and absent fields stand for the default. */
export function raftSettings(config: RaftConfig | null): RaftSettings {
  return {
    tickMs: config?.tick_ms || DEFAULT_TICKS.tickMs,
    electionTicks: config?.election_tick || DEFAULT_TICKS.electionTicks,
    heartbeatTicks: config?.heartbeat_tick || DEFAULT_TICKS.heartbeatTicks,
    snapshotEntries: config?.snapshot_interval || DEFAULT_SNAPSHOT_ENTRIES,
    keepEntries: config?.log_entries_for_slow_followers || DEFAULT_KEEP_ENTRIES,
    keepSnapshots: config?.keep_old_snapshots ?? 0,
  };
}

/** @throws ShoalError InvalidArgument naming the setting, its bounds, and what was asked for. */
export function checkRaftConfig(config: RaftConfig | null): void {
  const { tickMs, electionTicks, heartbeatTicks, snapshotEntries, keepEntries, keepSnapshots } = raftSettings(config);
  const within = (name: string, value: number, min: number, max: number): void => {
    if (Number.isSafeInteger(value) && value >= min && value <= max) return;
    throw invalidArgument(`${name} must be between ${min} and ${max}, not ${value}`);
  };
  within('the raft tick in milliseconds', tickMs, TICK_MIN_MS, TICK_MAX_MS);
  if (electionTicks < HEARTBEATS_PER_ELECTION * heartbeatTicks) {
    throw invalidArgument(
      `the election tick (${electionTicks}) must be at least ${HEARTBEATS_PER_ELECTION} times the heartbeat tick ` +
        `(${heartbeatTicks}), or one lost heartbeat would cost the leader its office`,
    );
  }
  within(
    `the election time in milliseconds (${electionTicks} ticks of ${tickMs} ms)`,
    electionTicks * tickMs,
    ELECTION_MIN_MS,
    ELECTION_MAX_MS,
  );
  within('the snapshot interval', snapshotEntries, 1, SNAPSHOT_INTERVAL_MAX);
  within('the number of log entries for slow followers', keepEntries, 1, SLOW_FOLLOWER_ENTRIES_MAX);
  within('the number of old snapshots to keep', keepSnapshots, 0, OLD_SNAPSHOTS_MAX);
}

/**
 * Brings the raft driver of this manager to the cluster's settings, now and whenever they change. Every manager does so
 * by itself when it applies the change.
 */
export class RaftSettingsFollower {
  readonly #node: Pick<RaftNode, 'setTicks' | 'setSnapshots'>;
  readonly #store: Pick<Store, 'view' | 'watch'>;
  readonly #overrides: Partial<RaftSettings>;
  readonly #log: Logger;
  readonly #done: Promise<void>;
  #commits: ReturnType<Store['watch']> | undefined;
  #present: RaftSettings | undefined;
  #seen: RaftConfig | null | undefined;
  #steps = 0;
  #nodes = 0;
  #stopped = false;

  /** @param overrides settings that take precedence over those of the cluster. */
  constructor(
    node: Pick<RaftNode, 'setTicks' | 'setSnapshots'>,
    store: Pick<Store, 'view' | 'watch'>,
    overrides: Partial<RaftSettings>,
    log: Logger,
  ) {
    this.#node = node;
    this.#store = store;
    this.#overrides = overrides;
    this.#log = log;
    this.#done = this.#follow().catch((error: unknown) => {
      log.error('the settings of consensus are not followed any more', { error });
    });
  }

  /** Silence after which managers elect a new leader, ms; 0 before the first settings are known. */
  get electionMs(): number {
    return this.#present === undefined ? 0 : this.#present.tickMs * this.#present.electionTicks;
  }

  async #follow(): Promise<void> {
    while (!this.#stopped) {
      const commits = this.#store.watch();
      this.#commits = commits;
      this.#nodes = this.#store.view().list('node').length;
      this.#take();
      for await (const { reset, changes } of commits) {
        if (reset) this.#nodes = this.#store.view().list('node').length;
        else for (const change of changes) this.#count(change);
        this.#take();
      }
      if (!commits.overflowed) return;
    }
  }

  #count({ kind, action }: Change): void {
    if (kind !== 'node') return;
    if (action === 'create') this.#nodes++;
    if (action === 'remove') this.#nodes--;
  }

  #take(): void {
    const config = this.#store.view().list('cluster')[0]?.spec?.raft ?? null;
    const steps = electionSteps(this.#nodes);
    if (config === this.#seen && steps === this.#steps) return;
    this.#seen = config;
    this.#steps = steps;
    const { electionTicks: leaseTicks, ...others } = { ...raftSettings(config), ...this.#overrides };
    const settings = { ...others, electionTicks: leaseTicks * steps, leaseTicks };
    if (JSON.stringify(settings) === JSON.stringify(this.#present)) return;
    try {
      this.#node.setTicks(settings);
      this.#node.setSnapshots(settings.snapshotEntries, settings.keepEntries, settings.keepSnapshots);
      this.#present = settings;
      this.#log.info('settings of consensus', { ...settings });
    } catch (error) {
      // Only a manager of another version can have let them pass.
      this.#log.error('the settings of consensus are out of bounds: the former ones stay in force', { error });
    }
  }

  /** Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#commits?.close();
    await this.#done;
  }
}
