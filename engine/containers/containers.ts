import { watch, type FSWatcher } from 'node:fs';
import { basename, join } from 'node:path';
import {
  invalidArgument,
  isShoalError,
  makeName,
  newHexId,
  notFound,
  ShoalError,
  type Timer,
} from '../../base/index.ts';
import type { EndpointSpec } from '../../overlay-net/index.ts';
import { groupFor } from '../runtime/cgroup-driver.ts';
import { readCgroupUsage } from '../runtime/usage.ts';
import { logPolicy, withLogDefaults } from '../logs/policy.ts';
import type {
  Container,
  ContainerConfig,
  ContainerUsage,
  Containers,
  ExecOutcome,
  ExecRequest,
  Image,
  LogLine,
  LogQuery,
} from '../types.ts';
import { cgroupPathOf, retainVolumes } from './bundle.ts';
import type { KnownContainer } from '../doctor/host-checks.ts';
import { knownContainer } from './known.ts';
import { planContainer } from './creation.ts';
import { followLink, linksTo } from './links.ts';
import { beginLog, detailsOf, logBlocksOf } from './logging.ts';
import { checkName, nameConflict } from './names.ts';
import { endRemovals } from './removal.ts';
import { connectNetwork, disconnectNetwork } from './networking.ts';
import type { Parts } from './parts.ts';
import { NEVER_RUN } from './record.ts';
import { renameUnit } from './rename.ts';
import type { StoredContainer } from './store.ts';
import { ContainerUnit } from './unit.ts';
import type { ExitStatus, WaitCondition } from './waiter.ts';

/** All containers are looked after this often, in case a notice was lost or a monitor was killed. */
const CHECK_INTERVAL_MS = 5000;
/** Containers looked after in one turn of the event loop. */
const CHECK_SLICE = 50;

/** The containers of one host: finds them by name or id, and tells each of its end. */
export class ContainerSet implements Containers {
  readonly #parts: Parts;
  readonly #units = new Map<string, ContainerUnit>();
  /** Name to id; also names that a creation under way has taken. */
  readonly #names = new Map<string, string>();
  #watcher: FSWatcher | undefined;
  #timers: Timer[] = [];
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /**
   * Reads all containers, takes over those that run, and starts those that their policy wants.
   * @param beforeAdoption runs when all are known and nothing is done with them yet
   */
  async open(beforeAdoption: () => Promise<void> = () => Promise.resolve()): Promise<void> {
    const parts = this.#parts;
    await parts.runtime.prepare();
    for (const stored of await parts.store.load()) {
      this.#add(stored, true);
      this.#names.set(stored.container.config.name, stored.container.id);
    }
    await beforeAdoption();
    await endRemovals(parts);
    // Watched before anything is looked at, so that no end falls between.
    this.#watcher = watch(parts.runtime.paths.exitDir, (_event, name) => this.#onExitFile(name));
    this.#watcher.on('error', (error) => parts.log.error('exit files are not watched any more', { error }));
    for (const unit of this.units()) if (unit.running) retainVolumes(parts, unit.record.stored);
    for (const unit of this.units()) {
      await unit.adopt().catch((error: unknown) => {
        parts.log.error('a container could not be taken over', { id: unit.container.id, error });
      });
      if (unit.removed) this.#units.delete(unit.container.id);
    }
    const running = this.units().filter((unit) => unit.running);
    for (const { container } of running) await beginLog(parts, container, false);
    await parts.networks.keepSandboxes(new Set(running.map((unit) => unit.container.id)));
    this.#every(CHECK_INTERVAL_MS, 'looking after containers', () => this.#checkAll());
  }

  /** Stops watching; the containers go on. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#watcher?.close();
    for (const timer of this.#timers) timer.cancel();
    await Promise.all(this.units().map((unit) => unit.close()));
    await this.#parts.shippers.close();
    await this.#parts.logs.close();
  }

  /** What the doctor needs to know of each. */
  known(): Map<string, KnownContainer> {
    return new Map([...this.#units.values()].map((unit) => [unit.container.id, knownContainer(unit)]));
  }

  /** Does something while nothing else happens to a container, unless it runs by then. */
  async aside(id: string, work: () => Promise<void> | void): Promise<void> {
    const unit = this.#units.get(id);
    if (unit === undefined) return work();
    await unit.lock.run(async () => (unit.running ? undefined : work()));
  }

  #every(intervalMs: number, what: string, work: () => Promise<void>): void {
    const slot = this.#timers.length;
    const next = (): void => {
      if (this.#closed) return;
      this.#timers[slot] = this.#parts.clock.after(intervalMs, () => {
        void work()
          .catch((error: unknown) => this.#parts.log.error('a periodic task failed', { what, error }))
          .finally(next);
      });
    };
    next();
  }

  #onExitFile(name: string | null): void {
    const unit = name === null ? undefined : this.#units.get(basename(name));
    if (unit === undefined) return;
    void unit.ended().catch((error: unknown) => {
      this.#parts.log.error('the end of a container could not be recorded', { id: unit.container.id, error });
    });
  }

  async #checkAll(): Promise<void> {
    let count = 0;
    for (const unit of this.units()) {
      await unit.check();
      if (++count % CHECK_SLICE === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  #add(stored: StoredContainer, fromDisk: boolean): ContainerUnit {
    const { id, imageId, config } = stored.container;
    const image = (): Image => this.#parts.images.get(imageId);
    const unit = new ContainerUnit(this.#parts, stored, image, fromDisk && config.files.length > 0, (ended) => {
      if (ended.removing) return;
      void this.#remove(ended, { force: true, volumes: true }).catch((error: unknown) => {
        this.#parts.log.error('an ended container could not be removed', { id, error });
      });
    });
    this.#units.set(id, unit);
    return unit;
  }

  create(config: ContainerConfig): Promise<{ id: string; warnings: string[] }> {
    const { clock, counters } = this.#parts;
    return counters.timed('create', clock, () => this.#create(config));
  }

  async #create(request: ContainerConfig): Promise<{ id: string; warnings: string[] }> {
    const parts = this.#parts;
    const asked = { ...request, logDriver: withLogDefaults(request.logDriver, parts.logDefaults) };
    if (asked.name !== '') checkName(asked.name);
    const id = newHexId(parts.random);
    const name = this.#takeName(asked.name, id);
    try {
      const planned = await planContainer(parts, asked, (other) => this.#mountsOf(other));
      const { config, imageId, path, args, mounts, shown, warnings } = planned;
      const policy = logPolicy(config.logDriver);
      const container: Container = {
        ...{ id, imageId, path, args },
        config: { ...config, name },
        createdMs: parts.clock.now(),
        ...NEVER_RUN,
        // Known before anything is made there, so that a crash leaves nothing unfound.
        cgroupPath: groupFor(parts.groups, config.cgroupParent, id).path,
        mounts: shown,
        logPath: policy.driver === 'none' ? '' : join(parts.store.directory(id), 'ctr.log'),
      };
      await parts.store.makeDirectory(id);
      const unit = this.#add({ container, mounts, manuallyStopped: false }, false);
      await unit.record.save(true);
      unit.record.event('create');
      return { id, warnings };
    } catch (error) {
      this.#units.delete(id);
      this.#names.delete(name);
      await parts.store.remove(id);
      throw error;
    }
  }

  #mountsOf(reference: string): StoredContainer['mounts'] | undefined {
    const id = this.find(reference)?.id;
    return id === undefined ? undefined : this.#units.get(id)?.record.stored.mounts;
  }

  #takeName(wanted: string, id: string): string {
    const name = wanted === '' ? makeName(this.#parts.random, (candidate) => this.#names.has(candidate)) : wanted;
    const holder = this.#names.get(name);
    if (holder !== undefined) throw nameConflict(name, holder);
    this.#names.set(name, id);
    return name;
  }

  /** By full id, then name, then unambiguous prefix of an id. @throws ShoalError NotFound, InvalidArgument */
  unit(reference: string): ContainerUnit {
    const bare = reference.startsWith('/') ? reference.slice(1) : reference;
    const byId = this.#units.get(bare);
    if (byId !== undefined) return byId;
    const byName = this.#units.get(this.#names.get(bare) ?? '');
    if (byName !== undefined) return byName;
    const matches = /^[0-9a-f]+$/.test(bare) ? [...this.#units.keys()].filter((id) => id.startsWith(bare)) : [];
    if (matches.length > 1) {
      throw invalidArgument(`Multiple IDs found with provided prefix: ${bare}`);
    }
    const unit = this.#units.get(matches[0] ?? '');
    if (unit === undefined) throw notFound(`No such container: ${reference}`);
    return unit;
  }

  /** As `inspect`, but undefined for what is not there. */
  find(reference: string): Container | undefined {
    try {
      return this.unit(reference).container;
    } catch (error) {
      if (isShoalError(error, 'NotFound', 'InvalidArgument')) return undefined;
      throw error;
    }
  }

  /** Hosts files of containers that are linked to one follow it. */
  moved(containerId: string): void {
    for (const unit of this.#units.values()) {
      if (!unit.running || !linksTo(this.#parts, unit.container.config, containerId)) continue;
      void unit
        .alone(async (running) => (running ? followLink(this.#parts, unit.container, containerId) : undefined))
        .catch((error: unknown) => {
          this.#parts.log.warn('a link of a container is out of date', { id: unit.container.id, error });
        });
    }
  }

  async connect(reference: string, endpoint: EndpointSpec): Promise<void> {
    const unit = this.unit(reference);
    await unit.alone((running) => connectNetwork(this.#parts, unit.container, endpoint, running));
    if (unit.running) this.moved(unit.container.id);
  }

  async disconnect(reference: string, networkId: string): Promise<void> {
    const unit = this.unit(reference);
    await unit.alone((running) => disconnectNetwork(this.#parts, unit.container, networkId, running));
  }

  async start(reference: string): Promise<void> {
    const { clock, counters } = this.#parts;
    await counters.timed('start', clock, () => this.unit(reference).start());
  }

  async stop(reference: string, options: { signal?: string; graceMs?: number }): Promise<void> {
    await this.unit(reference).stop(options);
  }

  async kill(reference: string, signal: string): Promise<void> {
    await this.unit(reference).kill(signal);
  }

  async remove(reference: string, options: { force: boolean; volumes: boolean }): Promise<void> {
    await this.#remove(this.unit(reference), options, reference);
  }

  async #remove(
    unit: ContainerUnit,
    options: { force: boolean; volumes: boolean },
    called = unit.container.config.name,
  ): Promise<void> {
    const { clock, counters } = this.#parts;
    await counters.timed('delete', clock, () => unit.remove(options, called));
    this.#units.delete(unit.container.id);
    const { name } = unit.container.config;
    if (this.#names.get(name) === unit.container.id) this.#names.delete(name);
  }

  /** @throws ShoalError Conflict for a taken name, InvalidArgument, in Docker's words. */
  async rename(reference: string, wanted: string): Promise<void> {
    const name = wanted.replace(/^\//, '');
    if (reference === '' || name === '') throw invalidArgument('Neither old nor new names may be empty');
    const unit = this.unit(reference);
    const { id, config } = unit.container;
    const oldName = config.name;
    if (oldName === name) throw invalidArgument('Renaming a container with the same name as its current name');
    try {
      checkName(name);
      this.#takeName(name, id);
    } catch (error) {
      if (!isShoalError(error)) throw error;
      throw new ShoalError(error.code, `Error when allocating new name: ${error.message}`);
    }
    try {
      await renameUnit(unit, name, this.units());
    } catch (error) {
      if (unit.container.config.name === oldName) this.#names.delete(name);
      throw error;
    }
    this.#names.delete(oldName);
  }

  units(): ContainerUnit[] {
    return [...this.#units.values()];
  }

  async wait(reference: string, condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    return this.unit(reference).wait(condition, signal);
  }

  inspect(reference: string): Container {
    return { ...this.unit(reference).container };
  }

  list(): Container[] {
    return this.units().map((unit) => ({ ...unit.container }));
  }

  usage(reference: string): ContainerUsage | undefined {
    const { running, container } = this.unit(reference);
    if (!running) return undefined;
    const parts = this.#parts;
    const usage = readCgroupUsage(parts.cgroups.layout, cgroupPathOf(parts, container.id));
    return usage === undefined ? undefined : { ...usage, atMs: parts.clock.monotonic() };
  }

  /** @throws ShoalError Unimplemented when the container keeps no log. */
  async *logs(reference: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogLine> {
    for await (const lines of this.logBlocks(reference, query, signal)) yield* lines;
  }

  logBlocks(reference: string, query: LogQuery, signal: AbortSignal): AsyncIterable<LogLine[]> {
    return logBlocksOf(this.#parts, this.unit(reference), query, signal);
  }

  logDetails(reference: string): string {
    return detailsOf(this.unit(reference).container);
  }

  async exec(reference: string, request: ExecRequest, signal: AbortSignal): Promise<ExecOutcome> {
    return this.unit(reference).exec(request, signal);
  }

  /** Every container's state, counted. */
  counts(): { total: number; running: number; paused: number; stopped: number } {
    const states = this.units().map((unit) => unit.container.state);
    const running = states.filter((state) => state === 'running').length;
    const paused = states.filter((state) => state === 'paused').length;
    return { total: states.length, running, paused, stopped: states.length - running - paused };
  }
}
