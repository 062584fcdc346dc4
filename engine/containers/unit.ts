import { readFileSync } from 'node:fs';
import { abortReason, conflict, errorMessage, ShoalError, unavailable, type Timer } from '../../base/index.ts';
import { StartFailed } from '../runtime/conmon.ts';
import { isAlive, signalNumber, signalProcess } from '../runtime/process.ts';
import type { Container, EngineEvent, ExecOutcome, ExecRequest, Image, ImageConfig } from '../types.ts';
import { cgroupPathOf, prepareBundle, releaseBundle } from './bundle.ts';
import { healthCheckOf, stopRules } from './config.ts';
import { runExec } from './exec.ts';
import { HealthMonitor } from './health.ts';
import { removeFiles } from './injected-files.ts';
import { Limiter } from './limiter.ts';
import { runningConflict } from './names.ts';
import { makeSandbox } from './networking.ts';
import type { Parts } from './parts.ts';
import { RestartBackoff, shouldRestart, shouldStartWithDaemon } from './restart.ts';
import type { StoredContainer } from './store.ts';
import type { ExitStatus, WaitCondition, Waiter } from './waiter.ts';

const SIGKILL = 9;
/** After SIGKILL a process is gone at once, unless the kernel holds it in a disk wait. */
const KILL_WAIT_MS = 10_000;
const EXIT_UNKNOWN = 255;
const EXIT_KILLED = 128 + SIGKILL;
/** Signals by which a user means the end: the restart policy then rests. */
const ENDING_SIGNALS = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGQUIT'].map(signalNumber);

/** One container's life. Start, end and removal exclude each other; every step may be repeated after a crash. */
export class ContainerUnit {
  readonly stored: StoredContainer;
  readonly #parts: Parts;
  readonly #image: () => Image;
  readonly #lock = new Limiter(1);
  readonly #waiters = new Set<Waiter>();
  readonly #backoff = new RestartBackoff();
  /** Called after the end of a container that removes itself. */
  readonly #onAutoRemove: (unit: ContainerUnit) => void;
  #filesLost: boolean;
  #health: HealthMonitor | undefined;
  #restartTimer: Timer | undefined;
  #writing: Promise<void> = Promise.resolve();
  #removed = false;
  #closed = false;

  /** @param filesLost the record comes from disk, where injected files have no bytes. */
  constructor(
    parts: Parts,
    stored: StoredContainer,
    image: () => Image,
    filesLost: boolean,
    onAutoRemove: (unit: ContainerUnit) => void,
  ) {
    this.#parts = parts;
    this.stored = stored;
    this.#image = image;
    this.#filesLost = filesLost;
    this.#onAutoRemove = onAutoRemove;
  }

  get container(): Container {
    return this.stored.container;
  }

  get running(): boolean {
    return this.container.state === 'running' || this.container.state === 'paused';
  }

  get removed(): boolean {
    return this.#removed;
  }

  /** Writes the record; writes of one container follow each other. */
  save(first = false): Promise<void> {
    const write = this.#writing.then(() => this.#parts.store.write(this.stored, first));
    this.#writing = write.catch(() => undefined);
    return write;
  }

  event(action: string, more: Readonly<Record<string, string>> = {}): void {
    const { id, config } = this.container;
    const event: EngineEvent = {
      type: 'container',
      action,
      actorId: id,
      attributes: { ...config.labels, image: config.image, name: config.name, ...more },
      timeMs: this.#parts.clock.now(),
    };
    this.#parts.publish(event);
  }

  /** @throws ShoalError NotModified when it runs; StartFailed with the runtime's words. */
  start(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.running) throw new ShoalError('NotModified', `container ${this.container.id} is already running`);
      this.#checkPresent();
      this.#cancelRestart();
      this.stored.manuallyStopped = false;
      this.container.restartCount = 0;
      await this.#parts.starts.run(() => this.#launch());
    });
  }

  /** Runs a change of the container, with nothing else under way, and saves it. */
  alone(change: (running: boolean) => Promise<void>): Promise<void> {
    return this.#lock.run(async () => {
      this.#checkPresent();
      await change(this.running);
      await this.save();
    });
  }

  #checkPresent(): void {
    if (this.#removed || this.container.state === 'removing') {
      throw conflict('container is marked for removal and cannot be started');
    }
  }

  async #launch(): Promise<void> {
    const { container, stored } = this;
    const parts = this.#parts;
    try {
      const image = this.#image();
      const prepared = await prepareBundle(parts, stored, image, this.#filesLost);
      const monitored = await parts.runtime.create(prepared.monitor);
      stored.monitored = monitored;
      parts.streams.begin(container, monitored.init);
      await parts.runtime.release(container.id, monitored.init);
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
      });
      this.#watchHealth(image.config, undefined);
      await this.save();
    } catch (error) {
      await this.#startFailed(error);
      throw error;
    }
    this.event('start');
    this.#parts.moved(container.id);
    // A container may end before its exit file was looked for.
    if (this.#exitFile() !== undefined) void this.ended();
  }

  async #startFailed(error: unknown): Promise<void> {
    const { container, stored } = this;
    const again = container.startedMs > 0;
    this.#health?.stop();
    container.state = again ? 'exited' : 'created';
    container.exitCode = error instanceof StartFailed ? error.exitCode : 128;
    container.error = errorMessage(error);
    container.pid = 0;
    delete stored.monitored;
    this.#parts.streams.abandon(container.id);
    await releaseBundle(this.#parts, stored);
    await this.save().catch((cause: unknown) => {
      this.#parts.log.error('a container cannot be saved', { id: container.id, error: cause });
    });
    this.#notify('next-exit', 'not-running');
    // docker run --rm waits for the removal, also after a start that failed.
    if (container.config.autoRemove) this.#onAutoRemove(this);
  }

  #watchHealth(image: ImageConfig, known: 'starting' | 'healthy' | 'unhealthy' | undefined): void {
    const check = healthCheckOf(this.container.config, image);
    if (check === undefined) return;
    this.container.health = known ?? 'starting';
    this.#health = new HealthMonitor(
      {
        check,
        clock: this.#parts.clock,
        log: this.#parts.log.with({ container: this.container.id }),
        exec: (request, signal) => this.exec(request, signal),
        onStatus: (status) => {
          this.container.health = status;
          this.event(`health_status: ${status}`);
          this.#saveLater();
        },
      },
      this.container.health,
    );
  }

  #saveLater(): void {
    void this.save().catch((error: unknown) => {
      this.#parts.log.error('a container cannot be saved', { id: this.container.id, error });
    });
  }

  /** The exit code that conmon wrote, or undefined while there is none. */
  #exitFile(): number | undefined {
    try {
      const text = readFileSync(this.#parts.runtime.exitFile(this.container.id), 'utf8').trim();
      return text === '' ? undefined : Number(text);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Takes note of the end when there is an exit file. Called for every hint that there may be one. */
  async ended(): Promise<void> {
    await this.#lock.run(async () => {
      if (!this.running || this.#closed) return;
      const exitCode = this.#exitFile();
      if (exitCode !== undefined) await this.#finish(exitCode, '');
    });
  }

  /** Looks after a running container whose end may have been missed, or whose monitor was killed. */
  async check(): Promise<void> {
    if (!this.running) return;
    const { monitored } = this.stored;
    const monitorAlive = isAlive(monitored?.conmon);
    if (this.#exitFile() !== undefined) return this.ended();
    if (monitorAlive) return;
    await this.#lock.run(async () => {
      if (!this.running || this.#closed || this.stored.monitored !== monitored) return;
      const exitCode = this.#exitFile();
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
    const { container, stored } = this;
    const parts = this.#parts;
    this.#health?.stop();
    this.#health = undefined;
    const ooms = await parts.cgroups.oomKills(cgroupPathOf(parts, container.id));
    const ranMs = parts.clock.now() - container.startedMs;
    const { config } = container;
    const restart = shouldRestart(config.restart, exitCode, container.restartCount, stored.manuallyStopped);
    Object.assign(container, {
      state: restart ? 'restarting' : 'exited',
      pid: 0,
      exitCode,
      oomKilled: ooms > 0,
      error,
      finishedMs: parts.clock.now(),
      endpoints: [],
      ports: [],
    });
    delete stored.monitored;
    // Recorded first: taking down removes the exit file.
    await this.save();
    await releaseBundle(parts, stored);
    if (ooms > 0) this.event('oom');
    this.event('die', { exitCode: String(exitCode), execDuration: String(Math.round(ranMs / 1000)) });
    this.#notify('next-exit', 'not-running');
    if (restart) this.#scheduleRestart(this.#backoff.delayAfter(ranMs));
    else if (config.autoRemove) this.#onAutoRemove(this);
  }

  #scheduleRestart(delayMs: number): void {
    if (this.#closed) return;
    this.#restartTimer = this.#parts.clock.after(delayMs, () => {
      void this.#lock
        .run(async () => {
          if (this.container.state !== 'restarting' || this.#closed) return;
          this.container.restartCount += 1;
          await this.#parts.starts.run(() => this.#launch());
        })
        .catch((error: unknown) => {
          this.#parts.log.warn('a container could not be restarted', { id: this.container.id, error });
          this.#retryRestart();
        });
    });
  }

  /** A restart that failed (a network that is not back yet, say) is tried again by the same policy. */
  #retryRestart(): void {
    const { container, stored } = this;
    const { restart } = container.config;
    if (!shouldRestart(restart, container.exitCode, container.restartCount, stored.manuallyStopped)) return;
    container.state = 'restarting';
    this.#scheduleRestart(this.#backoff.delayAfter(0));
  }

  #cancelRestart(): void {
    this.#restartTimer?.cancel();
    this.#restartTimer = undefined;
    if (this.container.state === 'restarting') this.container.state = 'exited';
  }

  /** @throws ShoalError NotModified when it does not run; Unavailable when it survives SIGKILL. */
  async stop(options: { signal?: string; graceMs?: number }): Promise<void> {
    const rules = stopRules(this.container.config, this.#imageConfig());
    const signal = signalNumber(options.signal || rules.signal);
    const graceMs = options.graceMs ?? rules.graceMs;
    // A start or end under way is let finish first.
    const running = await this.#lock.run(async () => {
      if (this.container.state === 'restarting') {
        this.stored.manuallyStopped = true;
        this.#cancelRestart();
        await this.save();
        return undefined;
      }
      if (!this.running) throw new ShoalError('NotModified', `container ${this.container.id} is not running`);
      this.stored.manuallyStopped = true;
      await this.save();
      return { exit: this.#nextExit() };
    });
    if (running === undefined) return;
    if (this.container.config.network.mode === 'sandbox') await this.#drain();
    this.event('kill', { signal: String(signal) });
    signalProcess(this.stored.monitored?.init, signal);
    const ended = graceMs === 0 ? false : await this.#within(running.exit, graceMs);
    if (!ended) await this.#killAndWait(running.exit);
    this.event('stop');
  }

  async #drain(): Promise<void> {
    await this.#parts.networks.drainSandbox(this.container.id).catch((error: unknown) => {
      this.#parts.log.warn('a container could not be taken out of its networks before it stops', {
        id: this.container.id,
        error,
      });
    });
  }

  async #killAndWait(exit: Promise<ExitStatus>): Promise<void> {
    signalProcess(this.stored.monitored?.init, SIGKILL);
    if (await this.#within(exit, KILL_WAIT_MS)) return;
    // The exit file may be there with its notice lost.
    await this.check();
    if (this.running) {
      throw unavailable(`container ${this.container.id} does not end after SIGKILL: the kernel holds it; try again`);
    }
  }

  /** Whether the exit comes within a time; negative is without limit. */
  async #within(exit: Promise<ExitStatus>, graceMs: number): Promise<boolean> {
    if (graceMs < 0) return exit.then(() => true);
    const timeout = new AbortController();
    const late = this.#parts.clock.sleep(graceMs, timeout.signal).then(
      () => false,
      () => true,
    );
    const result = await Promise.race([exit.then(() => true), late]);
    timeout.abort();
    return result;
  }

  #nextExit(): Promise<ExitStatus> {
    return new Promise((resolve) => this.#waiters.add({ condition: 'next-exit', resolve }));
  }

  /** @throws ShoalError Conflict when it does not run, InvalidArgument for an unknown signal. */
  async kill(signalText: string): Promise<void> {
    const signal = signalNumber(signalText === '' ? 'SIGKILL' : signalText);
    const { id, config } = this.container;
    await this.#lock.run(async () => {
      const sent = this.running && signalProcess(this.stored.monitored?.init, signal);
      if (!sent) throw conflict(`cannot kill container: ${config.name}: container ${id} is not running`);
      const ending = signal === signalNumber(stopRules(config, this.#imageConfig()).signal);
      if (ending || ENDING_SIGNALS.includes(signal)) this.stored.manuallyStopped = true;
      await this.save();
    });
    this.event('kill', { signal: String(signal) });
  }

  #imageConfig(): ImageConfig {
    try {
      return this.#image().config;
    } catch {
      // Its image was removed by force; the container keeps what it has.
      return {};
    }
  }

  /** Resolves by Docker's conditions. Rejects with the reason when `signal` aborts. */
  wait(condition: WaitCondition, signal: AbortSignal): Promise<ExitStatus> {
    if (signal.aborted) return Promise.reject(abortReason(signal));
    const idle = !this.running && this.container.state !== 'restarting';
    if (condition === 'not-running' && idle) return Promise.resolve(this.#status());
    if (this.#removed) return Promise.resolve(this.#status());
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        condition,
        resolve: (status) => {
          signal.removeEventListener('abort', onAbort);
          resolve(status);
        },
      };
      const onAbort = (): void => {
        this.#waiters.delete(waiter);
        reject(abortReason(signal));
      };
      signal.addEventListener('abort', onAbort, { once: true });
      this.#waiters.add(waiter);
    });
  }

  #status(): ExitStatus {
    const { exitCode, error } = this.container;
    return { exitCode, ...(error === '' ? {} : { error }) };
  }

  #notify(...conditions: WaitCondition[]): void {
    for (const waiter of [...this.#waiters]) {
      if (!conditions.includes(waiter.condition)) continue;
      this.#waiters.delete(waiter);
      waiter.resolve(this.#status());
    }
  }

  exec(request: ExecRequest, signal: AbortSignal): Promise<ExecOutcome> {
    return runExec(this.#parts, this.container, this.#imageConfig(), request, signal);
  }

  /**
   * Removes the container and what is its own. @param force kills it first when it runs.
   * @throws ShoalError Conflict in Docker's words when it runs and `force` is not set.
   */
  async remove(options: { force: boolean; volumes: boolean }): Promise<void> {
    if (this.running || this.container.state === 'restarting') {
      if (!options.force) throw runningConflict(this.container.config.name);
      await this.stop({ signal: 'SIGKILL', graceMs: KILL_WAIT_MS }).catch((error: unknown) => {
        if (!(error instanceof ShoalError && error.code === 'NotModified')) throw error;
      });
    }
    await this.#lock.run(async () => {
      if (this.#removed) return;
      if (this.running) throw runningConflict(this.container.config.name);
      this.#cancelRestart();
      const before = this.container.state;
      this.container.state = 'removing';
      try {
        await this.#takeAway(options.volumes);
      } catch (error) {
        this.container.state = before === 'removing' ? 'dead' : before;
        throw error;
      }
      this.#removed = true;
    });
    this.event('destroy');
    this.#notify('removed', 'next-exit', 'not-running');
  }

  async #takeAway(volumes: boolean): Promise<void> {
    const { id } = this.container;
    const parts = this.#parts;
    parts.streams.abandon(id);
    // All of it once more: an earlier release may have failed half-way.
    await releaseBundle(parts, this.stored);
    await parts.images.removeRoot(id);
    await removeFiles(parts.filesRoot, id);
    await this.#writing;
    await parts.store.remove(id);
    for (const mount of volumes ? this.stored.mounts : []) {
      if (mount.type !== 'volume' || mount.anonymous !== true) continue;
      await parts.volumes.remove(mount.source, true).catch((error: unknown) => {
        parts.log.warn('an anonymous volume could not be removed', { id, volume: mount.source, error });
      });
    }
  }

  /**
   * Takes the container over at the start of the daemon: a running one goes on being watched; the end of one that ended
   * meanwhile is recorded; leavings of a start that was cut off are cleared away.
   */
  async adopt(): Promise<void> {
    if (this.running) {
      await this.check();
      if (this.running) return this.#resume();
    } else {
      await this.#lock.run(() => releaseBundle(this.#parts, this.stored));
    }
    const { container, stored } = this;
    if (container.state === 'removing') {
      container.state = 'exited';
      await this.remove({ force: true, volumes: container.config.autoRemove });
      return;
    }
    if (container.state === 'restarting' && this.#restartTimer === undefined) {
      this.#scheduleRestart(0);
      return;
    }
    const wanted =
      container.state === 'exited' &&
      container.startedMs > 0 &&
      shouldStartWithDaemon(
        container.config.restart,
        container.exitCode,
        container.restartCount,
        stored.manuallyStopped,
      );
    if (!wanted) return;
    container.state = 'restarting';
    this.#scheduleRestart(0);
  }

  #resume(): void {
    const { container } = this;
    this.#watchHealth(this.#imageConfig(), container.health);
    void makeSandbox(this.#parts, container.id, container.config, container.endpoints).catch((error: unknown) => {
      this.#parts.log.warn('the network of a running container could not be taken over', { id: container.id, error });
    });
  }

  /** The daemon goes; the container stays as it is. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#health?.stop();
    this.#restartTimer?.cancel();
    await this.#lock.run(() => this.#writing);
  }
}
