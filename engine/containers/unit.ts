import { abortReason, conflict, errorMessage, ShoalError } from '../../base/index.ts';
import { StartFailed } from '../runtime/conmon.ts';
import { isAlive, signalProcess } from '../runtime/process.ts';
import type { Container, ExecOutcome, ExecRequest, Image } from '../types.ts';
import { prepareBundle, releaseBundle } from './bundle.ts';
import { runExec } from './exec.ts';
import { HealthWatch } from './health-watch.ts';
import { Limiter } from './limiter.ts';
import { removalUnderWay, runningConflict } from './names.ts';
import { makeSandbox } from './networking.ts';
import { noteOutOfMemory } from './oom.ts';
import type { Parts } from './parts.ts';
import { adoptFrozen } from './pause.ts';
import { ContainerRecord } from './record.ts';
import { takeAway } from './removal.ts';
import { shouldStartWithDaemon } from './restart.ts';
import { Restarts } from './restarts.ts';
import { endForRemoval, killContainer, stopContainer, type StopOptions } from './stop.ts';
import type { StoredContainer } from './store.ts';
import { volumeEvents } from './volume-events.ts';
import { Waiters, type ExitStatus, type WaitCondition } from './waiter.ts';

const SIGKILL = 9;
const EXIT_UNKNOWN = 255;
const EXIT_KILLED = 128 + SIGKILL;

/**
 * One container's life. Start, end and removal exclude each other; every step may be repeated after a crash. What it
 * knows is in `record`; the fields that are not its containers' are for the files of this folder.
 */
export class ContainerUnit {
  readonly record: ContainerRecord;
  readonly lock = new Limiter(1);
  readonly waiters = new Waiters();
  readonly restarts: Restarts;
  readonly health: HealthWatch;
  /** Called after the end of a container that removes itself. */
  readonly #onAutoRemove: (unit: ContainerUnit) => void;
  readonly #filesLost: boolean;
  /** A user restarts it: its end is not the end. */
  beingRestarted = false;
  #removing = false;
  #removed = false;
  #ending = false;
  #closed = false;

  /** @param filesLost the record comes from disk, where injected files have no bytes. */
  constructor(
    parts: Parts,
    stored: StoredContainer,
    image: () => Image,
    filesLost: boolean,
    onAutoRemove: (unit: ContainerUnit) => void,
  ) {
    this.record = new ContainerRecord(parts, stored, image);
    this.restarts = new Restarts(this.record, this.lock, () => this.#launch());
    this.health = new HealthWatch(this.record, (request, signal) => this.exec(request, signal));
    this.#filesLost = filesLost;
    this.#onAutoRemove = onAutoRemove;
  }

  get container(): Container {
    return this.record.container;
  }

  get running(): boolean {
    return this.record.running;
  }

  /** Somebody removes it just now. */
  get removing(): boolean {
    return this.#removing;
  }

  get removed(): boolean {
    return this.#removed;
  }

  /** @throws ShoalError NotModified when it runs; StartFailed with the runtime's words. */
  start(): Promise<void> {
    return this.lock.run(async () => {
      const { container, stored, parts } = this.record;
      if (this.running) throw new ShoalError('NotModified', `container ${container.id} is already running`);
      this.#checkPresent();
      this.restarts.cancel();
      stored.manuallyStopped = false;
      delete stored.policyEnded;
      container.restartCount = 0;
      await parts.starts.run(() => this.#launch());
    });
  }

  /** Runs a change of the container, with nothing else under way, and saves it. */
  alone(change: (running: boolean) => Promise<void>): Promise<void> {
    return this.lock.run(async () => {
      this.#checkPresent();
      await change(this.running);
      await this.record.save();
    });
  }

  #checkPresent(): void {
    if (this.#removed || this.container.state === 'removing') {
      throw conflict('container is marked for removal and cannot be started');
    }
  }

  async #launch(): Promise<void> {
    const { container, stored, parts } = this.record;
    try {
      const image = this.record.image();
      delete stored.oomKills;
      volumeEvents(this.record, 'mount');
      const prepared = await prepareBundle(parts, stored, image, this.#filesLost);
      const monitored = await parts.runtime.create(prepared.monitor);
      parts.users.end(container.id);
      stored.monitored = monitored;
      parts.streams.begin(container, monitored.init);
      await parts.runtime.release(container.id, monitored.init, prepared.monitor.runtime);
      Object.assign(container, {
        state: 'running',
        pid: monitored.init.pid,
        exitCode: 0,
        oomKilled: false,
        error: '',
        startedMs: parts.clock.now(),
        endpoints: prepared.sandbox?.endpoints ?? [],
        ports: prepared.sandbox?.ports ?? [],
        mounts: prepared.mounts,
        etc: prepared.etc,
      });
      this.health.start(image.config, undefined);
      await this.record.saveState();
    } catch (error) {
      await this.#startFailed(error);
      throw error;
    }
    this.record.event('start');
    parts.moved(container.id);
    // A container may end before its exit file was looked for.
    if (this.record.exitFile() !== undefined) void this.ended();
  }

  async #startFailed(error: unknown): Promise<void> {
    const { container, stored, parts } = this.record;
    const again = container.startedMs > 0;
    this.health.stop();
    container.state = again ? 'exited' : 'created';
    container.exitCode = error instanceof StartFailed ? error.exitCode : 128;
    container.error = errorMessage(error);
    container.pid = 0;
    delete stored.monitored;
    parts.streams.abandon(container.id);
    await releaseBundle(parts, stored);
    volumeEvents(this.record, 'unmount');
    await this.record.note();
    // Nobody is told of an exit: it never ran, and who asked for the start has the error.
    this.#notify('not-running');
    // docker run --rm waits for the removal, also after a start that failed.
    if (container.config.autoRemove) this.#onAutoRemove(this);
  }

  /** Takes note of the end when there is an exit file. Called for every hint that there may be one. */
  async ended(): Promise<void> {
    await this.lock.run(async () => {
      if (!this.running || this.#closed) return;
      const exitCode = this.record.exitFile();
      if (exitCode !== undefined) await this.#finish(exitCode, '');
    });
  }

  /** Looks after a running container whose end may have been missed, or whose monitor was killed. */
  async check(): Promise<void> {
    if (!this.running) return;
    const { stored } = this.record;
    const { monitored } = stored;
    const monitorAlive = isAlive(monitored?.conmon);
    if (this.record.exitFile() !== undefined) return this.ended();
    if (monitorAlive) {
      noteOutOfMemory(this.record);
      return;
    }
    await this.lock.run(async () => {
      if (!this.running || this.#closed || stored.monitored !== monitored) return;
      const exitCode = this.record.exitFile();
      if (exitCode !== undefined) return this.#finish(exitCode, '');
      const alive = isAlive(monitored?.init);
      // Nobody will ever learn its exit code, and its output has no reader: it cannot go on.
      if (alive) signalProcess(monitored?.init, SIGKILL);
      const why = alive ? 'the monitor of the container was killed' : 'the container ended while nobody watched it';
      await this.#finish(alive ? EXIT_KILLED : EXIT_UNKNOWN, why);
    });
  }

  /** The container has ended: record it, take everything down, then restart or remove it by its policy. */
  async #finish(exitCode: number, error: string): Promise<void> {
    const { container, stored, parts } = this.record;
    this.health.stop();
    noteOutOfMemory(this.record);
    const ranMs = parts.clock.now() - container.startedMs;
    const restart = this.restarts.wanted(exitCode);
    if (restart) container.restartCount += 1;
    Object.assign(container, {
      state: restart ? 'restarting' : 'exited',
      pid: 0,
      exitCode,
      error,
      finishedMs: parts.clock.now(),
      endpoints: [],
      ports: [],
    });
    delete stored.monitored;
    this.#ending = true;
    try {
      // Recorded first: taking down removes the exit file.
      await this.record.note();
      await releaseBundle(parts, stored);
      volumeEvents(this.record, 'unmount');
      this.record.event('die', { exitCode: String(exitCode), execDuration: String(Math.round(ranMs / 1000)) });
    } finally {
      this.#ending = false;
      this.#notify('next-exit', 'not-running');
    }
    if (restart) this.restarts.after(ranMs);
    else if (container.config.autoRemove && !this.beingRestarted) this.#onAutoRemove(this);
  }

  stop(options: StopOptions): Promise<void> {
    return stopContainer(this, options);
  }

  kill(signal: string): Promise<void> {
    return killContainer(this, signal);
  }

  /** Resolves by Docker's conditions. Rejects with the reason when `signal` aborts. */
  wait(condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    if (signal.aborted) return Promise.reject(abortReason(signal));
    // An end that is being dealt with is told when all of it is taken down.
    const idle = !this.running && this.container.state !== 'restarting' && !this.#ending;
    if (condition === 'not-running' && idle) return Promise.resolve(this.record.status());
    if (this.#removed) return Promise.resolve(this.record.status());
    return this.waiters.wait(condition, signal);
  }

  #notify(...conditions: WaitCondition[]): void {
    this.waiters.notify(this.record.status(), ...conditions);
  }

  exec(request: ExecRequest, signal: AbortSignal): Promise<ExecOutcome> {
    return runExec(this.record.parts, this.container, this.record.imageConfig(), request, signal);
  }

  /**
   * Removes the container and what is its own. @param options.force kills it first when it runs.
   * @param called what the user called it by
   * @throws ShoalError Conflict in Docker's words when it runs and `force` is not set, or while it is being removed.
   */
  async remove(options: { force: boolean; volumes: boolean }, called = this.container.config.name): Promise<void> {
    if (this.#removing) throw removalUnderWay(called);
    this.#removing = true;
    try {
      await this.#remove(options);
    } finally {
      this.#removing = false;
    }
  }

  async #remove(options: { force: boolean; volumes: boolean }): Promise<void> {
    const { config, state } = this.container;
    if (this.running || state === 'restarting') {
      if (!options.force) throw runningConflict(config.name, state);
      await endForRemoval(this);
    }
    const done = await this.lock.run(async () => {
      // Another has done it meanwhile, and told of it.
      if (this.#removed) return false;
      if (this.running) throw runningConflict(config.name, this.container.state);
      this.restarts.cancel();
      const before = this.container.state;
      this.container.state = 'removing';
      try {
        await takeAway(this.record, options.volumes);
      } catch (error) {
        this.container.state = before === 'removing' ? 'dead' : before;
        throw error;
      }
      this.#removed = true;
      return true;
    });
    if (!done) return;
    this.record.event('destroy');
    this.#notify('next-exit', 'not-running');
    // Who waits for the removal is not told of a start that failed before: who asked for it was.
    this.waiters.notify({ exitCode: this.record.container.exitCode }, 'removed');
  }

  /**
   * Takes the container over at the start of the daemon: a running one goes on being watched; the end of one that ended
   * meanwhile is recorded; leavings of a start that was cut off are cleared away.
   */
  async adopt(): Promise<void> {
    const { container, stored, parts } = this.record;
    if (this.running) {
      await this.check();
      if (this.running) return this.#resume();
    } else {
      await this.lock.run(() => releaseBundle(parts, stored));
    }
    if (container.state === 'removing') {
      container.state = 'exited';
      await this.remove({ force: true, volumes: container.config.autoRemove });
      return;
    }
    // The end of one that ended meanwhile has just been looked at.
    if (this.restarts.scheduled) return;
    // As Docker: what removes itself does not outlive the daemon, unless it runs or is to run again.
    const { autoRemove } = container.config;
    if (autoRemove && ['created', 'exited'].includes(container.state)) return this.#onAutoRemove(this);
    const { config, exitCode } = container;
    const ended = container.state === 'exited' && container.startedMs > 0;
    const wanted = ended && shouldStartWithDaemon(config.restart, exitCode, stored);
    if (!wanted && container.state !== 'restarting') return;
    // A start of the daemon begins anew, as a start by hand does.
    Object.assign(container, { state: 'restarting', restartCount: 0 });
    stored.manuallyStopped = false;
    delete stored.policyEnded;
    this.restarts.schedule(0);
  }

  #resume(): void {
    const { container, parts } = this.record;
    adoptFrozen(this.record);
    if (container.state === 'running') this.health.start(this.record.imageConfig(), container.health);
    void makeSandbox(parts, container.id, container.config, container.endpoints).catch((error: unknown) => {
      parts.log.warn('the network of a running container could not be taken over', { id: container.id, error });
    });
  }

  /** The daemon goes; the container stays as it is. */
  async close(): Promise<void> {
    this.#closed = true;
    this.health.stop();
    this.restarts.close();
    await this.lock.run(() => this.record.end());
  }
}
