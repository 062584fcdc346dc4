import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  must,
  newId,
  readFileIfExists,
  ShoalError,
  systemClock,
  systemRandom,
  writeFileDurably,
  type Logger,
  type LogLevel,
  type Spawner,
} from '../base/index.ts';
import { ApiServer, metricsRoutes } from '../api/index.ts';
import {
  Engine,
  hostRoot,
  imageUsers,
  openImages,
  openVolumes,
  remapIds,
  probeEngineHost,
  volumeUsers,
  type EngineEvent,
  type EngineOptions,
} from '../engine/index.ts';
import type { Manager } from '../manager/index.ts';
import { HostNetwork } from '../overlay-net/index.ts';
import { Attachments, type Membership } from './attachments.ts';
import { ClusterNode } from './cluster.ts';
import type { DaemonConfig } from './config.ts';
import { EventHub, networkEvent } from './events.ts';
import { EngineExecutor } from './executor.ts';
import { describeNode } from './node-description.ts';
import { daemonId } from './system-info.ts';
import { applyReload, type RegistryRules } from './reload.ts';
import { swarmPort, systemPort } from './ports.ts';

export interface DaemonOptions {
  config: DaemonConfig;
  log: Logger;
  spawner: Spawner;
  version: string;
  gitCommit: string;
  /** Changes what `log` leaves out, when the configuration is read again. */
  setLogLevel?: (level: LogLevel) => void;
}

interface OpenedEngine {
  engine: Engine;
  images: Awaited<ReturnType<typeof openImages>>;
  networks: HostNetwork;
  attachments: Attachments;
  storageDriver: string;
}

type Closer = () => Promise<void> | void;

/** The running daemon: every room made and joined, to be ended in the opposite order. */
export class Daemon {
  readonly #options: DaemonOptions;
  readonly #closers: { name: string; close: Closer }[] = [];

  /** What a reload changes; undefined until all has started. */
  #live: { engine: Engine; hub: EventHub; images: { setRegistries(rules: RegistryRules): void } } | undefined;

  private constructor(options: DaemonOptions) {
    this.#options = options;
  }

  /**
   * Starts everything; resolves when the API answers.
   * @throws ShoalError with what is missing on this host, or what is wrong with its data
   */
  static async start(options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(options);
    try {
      await daemon.#start();
      return daemon;
    } catch (error) {
      await daemon.stop();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const { config, log, version, gitCommit } = this.#options;
    for (const warning of config.warnings) log.warn(warning);
    await this.#prepare();
    const hub = new EventHub(systemClock);
    const onEvent = (event: EngineEvent): void => hub.publish({ ...event, scope: 'local' });
    const swarm: { node?: ClusterNode } = {};
    const { engine, images, networks, attachments, storageDriver } = await this.#openEngine(onEvent, () => swarm.node);
    this.#live = { engine, hub, images };
    const cluster = this.#cluster(engine, networks, attachments, hub);
    swarm.node = cluster;
    const system = systemPort({
      config,
      engine,
      networks,
      hub,
      version,
      gitCommit,
      storageDriver,
      storageFallback: images.storageFallback,
    });
    const ports = { system, engine, swarm: swarmPort(cluster) };
    const api = new ApiServer({ ports, log });
    await cluster.start();
    this.#onStop('swarm', () => cluster.stop());
    this.#onStop('api', () => api.close());
    for (const host of config.hosts) await api.listen(host);
    if (config.metricsAddr !== '') {
      const metrics = new ApiServer({ ports, log, routes: metricsRoutes });
      this.#onStop('metrics', () => metrics.close());
      await metrics.listen(`tcp://${config.metricsAddr}`);
    }
    log.info('shoal daemon has started', { version, hosts: config.hosts, dataRoot: config.dataRoot });
  }

  #onStop(name: string, close: Closer): void {
    this.#closers.push({ name, close });
  }

  /** Directories, pid file, and what the host must have. */
  async #prepare(): Promise<void> {
    const { config, spawner } = this.#options;
    if (process.getuid?.() !== 0) {
      throw new ShoalError('FailedPrecondition', 'shoal daemon needs root: namespaces, mounts and cgroups are made');
    }
    for (const dir of [config.dataRoot, join(config.dataRoot, 'network'), config.execRoot, dirname(config.pidfile)]) {
      mkdirSync(dir, { recursive: true, mode: 0o711 });
    }
    this.#writePidFile(config.pidfile);
    rmSync(join(config.dataRoot, 'tmp'), { recursive: true, force: true });
    mkdirSync(join(config.dataRoot, 'tmp'), { mode: 0o700 });
    const idFile = join(config.dataRoot, 'engine-id');
    if (readFileIfExists(idFile) === undefined) writeFileDurably(idFile, `${newId()}\n`, 0o644);
    const faults = await probeEngineHost({
      dataRoot: config.dataRoot,
      spawner,
      clock: systemClock,
      random: systemRandom,
      cgroupParent: config.cgroupParent,
      ...driverOption(config),
    });
    if (faults.length > 0) {
      throw new ShoalError('FailedPrecondition', `this host cannot run containers:\n  ${faults.join('\n  ')}`);
    }
  }

  #writePidFile(path: string): void {
    const before = Number(readFileIfExists(path)?.trim() ?? '0');
    if (before > 0 && before !== process.pid && existsSync(`/proc/${before}`) && isDaemon(before)) {
      throw new ShoalError('Unavailable', `process with PID ${before} is still running; pid file ${path}`);
    }
    writeFileSync(path, `${process.pid}\n`, { mode: 0o644 });
    this.#onStop('pid file', () => rmSync(path, { force: true }));
  }

  /**
   * Takes over what can be changed of a configuration that was read again; the rest is told.
   * @throws ShoalError when a value is not good; nothing has changed then
   */
  reload(fresh: DaemonConfig): void {
    const { config, log } = this.#options;
    const { engine, hub, images } = must(this.#live, 'a daemon that has started');
    const { live, restart } = applyReload(
      {
        ...{ config, engine, hub },
        daemonId: daemonId(config.dataRoot),
        setLogLevel: this.#options.setLogLevel ?? (() => undefined),
        setRegistries: (rules) => images.setRegistries(rules),
        nowMs: systemClock.now(),
      },
      fresh,
    );
    log.info('configuration read again', { file: fresh.configFile, changed: live });
    if (restart.length > 0) log.warn('settings have changed that need a restart of the daemon', { settings: restart });
  }

  async #openNetworks(onEvent: (event: EngineEvent) => void): Promise<HostNetwork> {
    const { config, log, spawner } = this.#options;
    const networks = new HostNetwork({
      execRoot: config.execRoot,
      stateDir: join(config.dataRoot, 'network'),
      tag: createHash('sha256').update(config.dataRoot).digest('hex').slice(0, 4),
      spawner,
      clock: systemClock,
      random: systemRandom,
      log: log.with({ component: 'network' }),
      bridge: { subnet: config.bip, subnet6: config.fixedCidrV6 },
      ipv6: config.ipv6,
      ...(config.defaultAddressPools.length === 0 ? {} : { addressPools: config.defaultAddressPools }),
      iptables: config.iptables,
      ...(config.mtu === undefined ? {} : { mtu: config.mtu }),
      onRepair: ({ id, name, kind, fault, what, message }) => {
        const attributes = { name, kind, fault, what, message };
        onEvent({ type: 'network', action: 'repair', actorId: id, attributes, timeMs: systemClock.now() });
      },
      onEvent: (event) => onEvent(networkEvent(event, systemClock.now())),
    });
    await networks.start();
    this.#onStop('networks', () => networks.stop());
    return networks;
  }

  async #openEngine(
    onEvent: (event: EngineEvent) => void,
    swarm: () => ClusterNode | undefined,
  ): Promise<OpenedEngine> {
    const { config, log, spawner } = this.#options;
    const common = { dataRoot: config.dataRoot, spawner, clock: systemClock, random: systemRandom };
    // Before anything is made: who is asked for may be missing.
    const remap = await remapIds(config.usernsRemap, { spawner, log });
    const networks = await this.#openNetworks(onEvent);
    const users: { engine?: Engine } = {};
    const images = await openImages({
      ...common,
      log: log.with({ component: 'images' }),
      registries: { insecure: config.insecureRegistries, mirrors: config.registryMirrors },
      onEvent,
      usedBy: (imageId) => imageUsers(users.engine?.containers.list() ?? [], imageId),
      isRunning: (id) => (users.engine?.containers.list() ?? []).some((c) => c.id === id && c.state === 'running'),
      ...storageDriver(config.storageDriver),
    });
    this.#onStop('images', () => images.close());
    const volumes = await openVolumes({
      ...common,
      log: log.with({ component: 'volumes' }),
      ...(remap === undefined ? {} : { owner: hostRoot(remap) }),
      onEvent,
      usedBy: (name) => volumeUsers(users.engine?.containers.list() ?? [], name),
    });
    const attachments = new Attachments({
      networks,
      clock: systemClock,
      log: log.with({ component: 'attachments' }),
      membership: () => membershipOf(swarm()),
      containers: () => users.engine?.containers,
    });
    const engine = await Engine.open({
      ...common,
      execRoot: config.execRoot,
      log,
      onEvent,
      networks,
      swarm: attachments,
      images,
      volumes,
      ...(config.diskPressure === undefined ? {} : { pressure: config.diskPressure }),
      ...(remap === undefined ? {} : { remap }),
      ...containerOptions(config),
    });
    users.engine = engine;
    this.#onStop('engine', () => engine.shutdown());
    return { engine, images, networks, attachments, storageDriver: images.storageDriver };
  }

  #cluster(engine: Engine, networks: HostNetwork, attachments: Attachments, hub: EventHub): ClusterNode {
    const { config, log, version } = this.#options;
    const cluster: ClusterNode = new ClusterNode({
      dataRoot: config.dataRoot,
      defaultAdvertiseAddr: config.swarmDefaultAdvertiseAddr,
      executor: new EngineExecutor({
        engine,
        networks,
        attachments,
        clock: systemClock,
        log: log.with({ component: 'executor' }),
        describe: async () =>
          describeNode(config, {
            engineVersion: version,
            rootCa: cluster.member?.identity?.rootCa ?? '',
            dataPathAddr: cluster.member?.dataPathAddr ?? '',
            wireguardKey: networks.wireguardKey(),
            portClashes: networks.meshClashes(),
          }),
        defaults: { init: config.init, dns: config.dns },
      }),
      networks,
      clock: systemClock,
      random: systemRandom,
      log: log.with({ component: 'swarm' }),
      onManager: (manager: Manager) => void hub.followStore(manager.store, log),
    });
    return cluster;
  }

  /** Ends in order; containers go on. Every part is given its chance, also after a fault of another. */
  async stop(): Promise<void> {
    const { log } = this.#options;
    for (const { name, close } of this.#closers.splice(0).reverse()) {
      try {
        await close();
      } catch (error) {
        log.error('a part of the daemon did not end in order', { part: name, error });
      }
    }
  }
}

function membershipOf(node: ClusterNode | undefined): Membership | undefined {
  return node === undefined ? undefined : { state: node.state, agent: node.member?.agent };
}

/** What the configuration says of containers; the usual OCI runtime by its path. */
function containerOptions(config: DaemonConfig): Partial<EngineOptions> {
  const { runtime, runtimes, defaults } = config.containers;
  const usual = Object.hasOwn(runtimes, runtime) ? runtimes[runtime] : runtime;
  return {
    cgroupParent: config.cgroupParent,
    ...driverOption(config),
    defaultUlimits: config.defaultUlimits,
    dns: config.dns,
    initDefault: config.init,
    logDriver: config.logDriver,
    ...{ runtimes, containerDefaults: defaults },
    ...(usual ? { runtime: usual } : {}),
  };
}

function driverOption({ containers }: DaemonConfig): Pick<EngineOptions, 'cgroupDriver'> {
  return containers.cgroupDriver === undefined ? {} : { cgroupDriver: containers.cgroupDriver };
}

function storageDriver(name: string): { storageDriver?: 'overlay2' | 'vfs' } {
  if (name === '') return {};
  if (name === 'overlay2' || name === 'vfs') return { storageDriver: name };
  throw new ShoalError('InvalidArgument', `storage driver "${name}" is not supported: overlay2 or vfs`);
}

/** Whether a process is a daemon of ours, not another program that got the number after a crash. */
function isDaemon(pid: number): boolean {
  const words = readFileIfExists(`/proc/${pid}/cmdline`)?.split('\0') ?? [];
  return words.includes('daemon');
}
