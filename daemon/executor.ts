import { isShoalError, ShoalError, type Clock, type Logger } from '../base/index.ts';
import type { Container, Engine } from '../engine/index.ts';
import type { HostNetworks } from '../overlay-net/index.ts';
import {
  PROTOCOLS_BY_NAME,
  PortConfig_PublishMode,
  type NetworkCheckOrder,
  type NetworkCheckReport,
  type NetworkTable,
  type NodeDescription,
  type Task,
  type TaskStatus,
} from '../proto/index.ts';
import type {
  Executor,
  TaskController,
  TaskDependencies,
  TaskExit,
  TaskLogLine,
  TaskLogOptions,
  TaskObservation,
  TaskUse,
} from '../worker/index.ts';
import { drainMsOf } from '../manager/index.ts';
import type { Attachments } from './attachments.ts';
import { drained } from './drain.ts';
import { TaskImages } from './images.ts';
import { untilServing } from './listening.ts';
import { containerConfig, overlayNetworks, servicePorts, taskName } from './task-container.ts';

/** Longest wait for the table of a network that a task needs, ms. */
const NETWORK_WAIT_MS = 30_000;
const TASK_LABEL = 'com.docker.swarm.task.id';

export interface ExecutorOptions {
  engine: Engine;
  networks: HostNetworks;
  clock: Clock;
  log: Logger;
  attachments: Attachments;
  /** This node as it describes itself. */
  describe(): Promise<NodeDescription>;
  defaults: { init: boolean; dns: readonly string[] };
}

/** The worker's executor over this host's engine and networks. */
export class EngineExecutor implements Executor {
  readonly #options: ExecutorOptions;
  readonly #images: TaskImages;
  #node: NodeDescription | undefined;

  constructor(options: ExecutorOptions) {
    this.#options = options;
    this.#images = new TaskImages({ images: options.engine.images, clock: options.clock, log: options.log });
  }

  async describe(): Promise<NodeDescription> {
    const node = await this.#options.describe();
    this.#node = node;
    return node;
  }

  /** The description of the present session: templates of tasks need it at every start. */
  async #described(): Promise<NodeDescription> {
    return this.#node ?? (await this.describe());
  }

  controller(task: Task, dependencies: TaskDependencies): TaskController {
    if (task.spec?.attachment !== undefined) return this.#options.attachments.controller(task);
    return new ContainerController(
      task,
      dependencies,
      { ...this.#options, describe: () => this.#described() },
      this.#images,
    );
  }

  announceNetworkTable(table: NetworkTable): void {
    this.#options.networks.announceTable(table);
  }

  async setNetworkTable(table: NetworkTable): Promise<void> {
    await this.#options.networks.setTable(table);
  }

  async removeNetworkTable(networkId: string): Promise<void> {
    await this.#options.networks.removeTable(networkId);
  }

  checkNetworks(order: NetworkCheckOrder): Promise<NetworkCheckReport> {
    return this.#options.networks.checkNetworks(order);
  }

  async removeOrphans(taskIds: ReadonlySet<string>): Promise<void> {
    const { engine, log, attachments } = this.#options;
    if (taskIds.size === 0) await attachments.leave();
    for (const container of engine.containers.list()) {
      const taskId = container.config.labels[TASK_LABEL];
      if (taskId === undefined || taskIds.has(taskId)) continue;
      log.info('container of a forgotten task is removed', { container: container.id, task: taskId });
      await engine.containers.remove(container.id, { force: true, volumes: true });
    }
  }
}

class ContainerController implements TaskController {
  readonly #task: Task;
  readonly #dependencies: TaskDependencies;
  readonly #options: ExecutorOptions;
  readonly #images: TaskImages;
  readonly #name: string;

  constructor(task: Task, dependencies: TaskDependencies, options: ExecutorOptions, images: TaskImages) {
    this.#task = task;
    this.#dependencies = dependencies;
    this.#options = options;
    this.#images = images;
    this.#name = taskName(task);
  }

  #container(): Container | undefined {
    try {
      return this.#options.engine.containers.inspect(this.#name);
    } catch (error) {
      if (isShoalError(error, 'NotFound')) return undefined;
      throw error;
    }
  }

  async prepare(signal: AbortSignal): Promise<void> {
    if (this.#container() !== undefined) return;
    const spec = this.#task.spec?.container;
    if (spec === undefined) throw new ShoalError('InvalidArgument', 'the task has no container spec');
    const { networks, engine, defaults } = this.#options;
    await Promise.all([
      this.#images.ensure(spec.image, spec.pull_options?.registry_auth ?? '', signal),
      ...overlayNetworks(this.#task).map((id) => networks.waitForNetwork(id, NETWORK_WAIT_MS, signal)),
    ]);
    const node = await this.#options.describe();
    await engine.containers.create(containerConfig(this.#task, node, this.#dependencies, defaults));
  }

  async start(signal: AbortSignal): Promise<void> {
    const { engine } = this.#options;
    const before = this.#container();
    if (before?.state !== 'running') {
      try {
        await engine.containers.start(this.#name);
      } catch (error) {
        if (!isShoalError(error, 'NotModified')) throw error;
      }
    }
    const health = this.#container()?.health;
    if (health === 'starting') await this.#untilHealthy(signal);
    else if (health === undefined) await this.#untilServing(signal);
    if (this.#container()?.health === 'unhealthy') {
      await engine.containers.stop(this.#name, {});
      throw new ShoalError('FailedPrecondition', 'task: unhealthy container');
    }
  }

  /** A task without a health check is Running once it serves its ports, or was given the time to. */
  #untilServing(signal: AbortSignal): Promise<void> {
    const exposed = this.#container()?.config.exposedPorts ?? [];
    const ports = [...new Set([...exposed, ...servicePorts(this.#task)])];
    const pid = (): number => this.#container()?.pid ?? 0;
    return untilServing(ports, pid, this.#options.clock, signal);
  }

  /** A task with a health check is Running only once it is healthy. */
  async #untilHealthy(signal: AbortSignal): Promise<void> {
    const { engine } = this.#options;
    const events = engine.events.subscribe();
    const stop = (): void => events.close();
    signal.addEventListener('abort', stop, { once: true });
    try {
      if (this.#container()?.health !== 'starting') return;
      for await (const event of events) {
        if (event.type !== 'container') continue;
        const container = this.#container();
        if (container === undefined || container.state !== 'running' || container.health !== 'starting') return;
      }
      if (events.overflowed) throw new ShoalError('Unavailable', 'too many events at once while waiting for health');
    } finally {
      signal.removeEventListener('abort', stop);
      events.close();
    }
  }

  async observe(): Promise<TaskObservation> {
    const container = this.#container();
    if (container === undefined) return { state: 'absent' };
    switch (container.state) {
      case 'created':
        return { state: 'created' };
      case 'running':
      case 'paused':
      case 'restarting':
        return { state: 'running' };
      case 'exited':
      case 'dead':
      case 'removing':
        return { state: 'exited', exit: exitOf(container) };
    }
  }

  async wait(signal: AbortSignal): Promise<TaskExit> {
    const { engine, log } = this.#options;
    const unhealthy = new AbortController();
    const watch = this.#watchHealth(unhealthy.signal).catch((error: unknown) =>
      log.warn('health watch ended', { error }),
    );
    try {
      const { exitCode, error } = await engine.containers.wait(this.#name, 'not-running', signal);
      const container = this.#container();
      const text = error ?? (container?.health === 'unhealthy' ? 'unhealthy container' : undefined);
      if (container?.oomKilled === true) return { exitCode, error: `task: non-zero exit (${exitCode}): out of memory` };
      return { exitCode, ...(text === undefined ? {} : { error: text }) };
    } finally {
      unhealthy.abort(new Error('the container has ended'));
      await watch;
    }
  }

  /** Stops the container when its health check says unhealthy; the task then fails and is replaced. */
  async #watchHealth(signal: AbortSignal): Promise<void> {
    const id = this.#container()?.id;
    const { engine } = this.#options;
    if (id === undefined || this.#container()?.health === undefined) return;
    const events = engine.events.subscribe();
    const stop = (): void => events.close();
    signal.addEventListener('abort', stop, { once: true });
    try {
      if (this.#container()?.health !== 'unhealthy') {
        for await (const event of events) if (event.actorId === id && this.#container()?.health === 'unhealthy') break;
      }
      if (!signal.aborted && this.#container()?.health === 'unhealthy') await engine.containers.stop(id, {});
    } finally {
      signal.removeEventListener('abort', stop);
      events.close();
    }
  }

  async shutdown(): Promise<void> {
    const container = this.#container();
    if (container?.state !== 'running' && container?.state !== 'paused') return;
    const { networks, engine, clock } = this.#options;
    if (overlayNetworks(this.#task).length > 0) {
      await networks.drainSandbox(container.id);
      await drained(container.pid, drainMsOf(this.#task.service_annotations?.labels), clock);
    }
    try {
      await engine.containers.stop(container.id, {});
    } catch (error) {
      if (!isShoalError(error, 'NotModified', 'NotFound')) throw error;
    }
  }

  async remove(): Promise<void> {
    try {
      await this.#options.engine.containers.remove(this.#name, { force: true, volumes: true });
    } catch (error) {
      if (!isShoalError(error, 'NotFound')) throw error;
    }
  }

  async runtimeStatus(): Promise<Pick<TaskStatus, 'container' | 'port_status'>> {
    const container = this.#container();
    if (container === undefined) return { port_status: null };
    return {
      container: { container_id: container.id, pid: container.pid, exit_code: container.exitCode },
      port_status: {
        ports: container.ports.map((port) => ({
          name: '',
          protocol: PROTOCOLS_BY_NAME[port.protocol],
          target_port: port.targetPort,
          published_port: port.publishedPort,
          publish_mode: PortConfig_PublishMode.HOST,
          host_ip: port.hostIp,
        })),
      },
    };
  }

  usage(): TaskUse | undefined {
    return this.#options.engine.containers.usage(this.#name);
  }

  async *logs(options: TaskLogOptions, signal: AbortSignal): AsyncIterable<TaskLogLine> {
    const container = this.#container();
    if (container === undefined) return;
    const { stdout, stderr, follow, tail, sinceMs } = options;
    const query = {
      ...{ stdout, stderr, follow },
      ...(tail === undefined ? {} : { tail }),
      ...(sinceMs === undefined ? {} : { sinceMs }),
    };
    for await (const line of this.#options.engine.containers.logs(container.id, query, signal)) {
      yield { stream: line.stream, timestampMs: line.timestampMs, data: line.data };
    }
  }
}

function exitOf(container: Container): TaskExit {
  const error = container.error || (container.oomKilled ? 'out of memory' : '');
  return { exitCode: container.exitCode, ...(error === '' ? {} : { error }) };
}
