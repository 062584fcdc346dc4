import { conflict, errorMessage, isShoalError, notFound } from '../../base/index.ts';
import { cgroupPathOf } from '../containers/bundle.ts';
import type { ContainerSet } from '../containers/containers.ts';
import { pauseContainer, unpauseContainer } from '../containers/pause.ts';
import type { Parts } from '../containers/parts.ts';
import { dropLink } from '../containers/rename.ts';
import type { StopOptions } from '../containers/stop.ts';
import type { ContainerUnit } from '../containers/unit.ts';
import type {
  ContainerChange,
  ContainerControl,
  ContainerStats,
  ProcessTable,
  PruneRequest,
  StatsSample,
} from '../types.ts';
import { restart } from './restart.ts';
import { readStats, systemNs } from './stats-files.ts';
import { top } from './top.ts';
import { update } from './update.ts';

const STATS_INTERVAL_MS = 1000;
/** The host's own time is read at most this often: it is the same for all containers. */
const SYSTEM_FRESH_MS = 10;
/** States of containers that prune removes. */
const PRUNABLE = ['created', 'exited', 'dead'];

export interface ControlOptions {
  set: ContainerSet;
  parts: Parts;
  /** Tells what a container has written into its root file system. */
  files: { sizes(ids: readonly string[]): Promise<ReadonlyMap<string, { rw: number }>> };
}

/** What is done to the containers of one host, beside start, stop and removal. */
export class Control implements ContainerControl {
  readonly #set: ContainerSet;
  readonly #parts: Parts;
  readonly #files: ControlOptions['files'];
  #pruning = false;
  #system = { atMs: -Infinity, ns: 0 };

  constructor({ set, parts, files }: ControlOptions) {
    this.#set = set;
    this.#parts = parts;
    this.#files = files;
  }

  async pause(reference: string): Promise<void> {
    await pauseContainer(this.#set.unit(reference));
  }

  async unpause(reference: string): Promise<void> {
    await unpauseContainer(this.#set.unit(reference));
  }

  async restart(reference: string, options: StopOptions): Promise<void> {
    await restart(this.#set.unit(reference), options);
  }

  rename(reference: string, name: string): Promise<void> {
    return this.#set.rename(reference, name);
  }

  async update(reference: string, change: ContainerChange): Promise<string[]> {
    return update(this.#set.unit(reference), change);
  }

  async top(reference: string, psArgs: string): Promise<ProcessTable> {
    return top(this.#set.unit(reference), psArgs);
  }

  statsOnce(reference: string): StatsSample {
    return sample(this.#set.unit(reference), this.#read(this.#set.unit(reference)), undefined);
  }

  async *stats(reference: string, signal: AbortSignal): AsyncGenerator<StatsSample> {
    const unit = this.#set.unit(reference);
    let before: ContainerStats | undefined;
    while (!unit.removed && !signal.aborted) {
      const stats = this.#read(unit);
      yield sample(unit, stats, before);
      before = stats;
      await this.#parts.clock.sleep(STATS_INTERVAL_MS, signal);
    }
  }

  /** Undefined while it does not run. */
  #read({ running, container }: ContainerUnit): ContainerStats | undefined {
    if (!running) return undefined;
    const { cgroups, clock } = this.#parts;
    const pid = container.config.network.mode === 'host' ? undefined : container.pid;
    const atMs = clock.monotonic();
    if (atMs - this.#system.atMs > SYSTEM_FRESH_MS) this.#system = { atMs, ns: systemNs() };
    const now = { readMs: clock.now(), systemNs: this.#system.ns };
    return readStats(cgroups.layout, cgroupPathOf(this.#parts, container.id), pid, now);
  }

  networksPruned(): void {
    this.#pruned('network', 0);
  }

  #pruned(type: 'container' | 'network', reclaimedBytes: number): void {
    const attributes = { reclaimed: String(reclaimedBytes) };
    this.#parts.publish({ type, action: 'prune', actorId: '', attributes, timeMs: this.#parts.clock.now() });
  }

  async removeLink(path: string): Promise<void> {
    const [, parent = '', alias = ''] = /^\/?(.*)\/([^/]*)$/.exec(path) ?? [];
    if (parent === '') throw conflict('Conflict, cannot remove the default link name of the container');
    const found = await dropLink(this.#set.unit(parent), alias);
    if (!found) throw notFound(`Cannot find link ${alias} of container ${parent}`);
  }

  async prune({ untilMs = Infinity, wanted }: PruneRequest): Promise<{ removed: string[]; reclaimedBytes: number }> {
    if (this.#pruning) throw conflict('a prune operation is already running');
    this.#pruning = true;
    const removed: string[] = [];
    let reclaimedBytes = 0;
    try {
      for (const { container } of this.#set.units()) {
        const { id, state, createdMs, config } = container;
        if (!PRUNABLE.includes(state) || createdMs > untilMs || !wanted(config.labels)) continue;
        const size = (await this.#files.sizes([id]).catch(() => undefined))?.get(id)?.rw ?? 0;
        try {
          await this.#set.remove(id, { force: false, volumes: false });
        } catch (error) {
          // It was started, or removed by another, meanwhile.
          if (!isShoalError(error, 'Conflict', 'NotFound')) {
            this.#parts.log.warn('a container could not be pruned', { id, error: errorMessage(error) });
          }
          continue;
        }
        removed.push(id);
        reclaimedBytes += size;
      }
    } finally {
      this.#pruning = false;
    }
    this.#pruned('container', reclaimedBytes);
    return { removed, reclaimedBytes };
  }
}

function sample(
  { container }: ContainerUnit,
  stats: ContainerStats | undefined,
  before: ContainerStats | undefined,
): StatsSample {
  return {
    id: container.id,
    name: container.config.name,
    ...(stats === undefined ? {} : { stats }),
    ...(before === undefined ? {} : { before }),
  };
}
