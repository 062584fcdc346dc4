import { mkdir } from 'node:fs/promises';
import { cpus, totalmem } from 'node:os';
import { join } from 'node:path';
import { Watch, type Clock, type Logger, type Random, type Spawner } from '../base/index.ts';
import type { HostNetworks } from '../overlay-net/index.ts';
import { ContainerSet } from './containers/containers.ts';
import { Counters } from './containers/counters.ts';
import { Limiter } from './containers/limiter.ts';
import type { Parts } from './containers/parts.ts';
import { ContainerStore } from './containers/store.ts';
import { ContainerFiles } from './files/files.ts';
import { Roots } from './files/roots.ts';
import { LogKeeper } from './logs/keeper.ts';
import { LogShippers } from './logs/shipper.ts';
import { checkLogDefaults, type LogDriver } from './logs/policy.ts';
import { Control } from './control/control.ts';
import type { DiskPressure, PressurePolicy } from './pressure/pressure.ts';
import { diskPressure, type PressedStore } from './pressure/sources.ts';
import { Doctor, type ExaminedStore } from './doctor/engine-doctor.ts';
import type { HostView } from './doctor/host-checks.ts';
import { chooseGroups, systemdFacts, type CgroupDriver, type GroupPlace } from './runtime/cgroup-driver.ts';
import { Cgroups, readCgroupLayout } from './runtime/cgroups.ts';
import { Runtime } from './runtime/conmon.ts';
import { conmonArguments } from './runtime/conmon-version.ts';
import { knowsRecursiveReadOnly, Runtimes } from './runtime/runtimes.ts';
import { findPrograms, type HostPrograms } from './runtime/programs.ts';
import { readSysInfo, type SysInfo } from './runtime/sysinfo.ts';
import { CDI_DIRECTORIES, CdiFiles } from './runtime/cdi-files.ts';
import { guardProcesses } from './runtime/process-guard.ts';
import { probeHost, probeRuntime, type RuntimeFacts } from './runtime/probe.ts';
import { checkRemap } from './userns/host-check.ts';
import { ContainerUsers } from './userns/container-users.ts';
import { UserNamespaces } from './userns/namespaces.ts';
import { ContainerStreams } from './streams/streams.ts';
import { EngineTerminals } from './streams/terminals.ts';
import type {
  ContainerControl,
  ContainerDefaults,
  Containers,
  EngineEvent,
  IdMapping,
  Images,
  SwarmNetworks,
  Terminals,
  UlimitRequest,
  Volumes,
} from './types.ts';

/** Past events kept for `docker events --since`. */
const EVENTS_KEPT_MAX = 4096;
/** Containers made at once; more only compete for the processors. */
const STARTS_PER_CPU = 4;

export interface EngineOptions {
  /** Lasting state (containers/, …). */
  dataRoot: string;
  /** State of this boot only (sockets, runtime state, exit files). */
  execRoot: string;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  networks: HostNetworks;
  /** Told of each event at once, in the order in which things happen. */
  onEvent?: (event: EngineEvent) => void;
  /** Networks of a swarm for containers that are no tasks; absent: there are none. */
  swarm?: SwarmNetworks;
  images: Images & Partial<ExaminedStore & PressedStore>;
  /** When unused things are removed by themselves; absent: never. */
  pressure?: PressurePolicy;
  volumes: Volumes;
  /** Who makes control groups; default: by this host (see `chooseGroups`). */
  cgroupDriver?: CgroupDriver;
  /** Control group below which containers stand, a path or a slice; default `/shoal`, `shoal.slice`. */
  cgroupParent?: string;
  defaultUlimits?: readonly UlimitRequest[];
  /** Whether every container gets an init process, asked for or not; default false. */
  initDefault?: boolean;
  /** Resolvers of containers that name none; default: the host's. */
  dns?: readonly string[];
  /** The built file helper; default: beside the daemon's program. */
  fileHelper?: string;
  /** Log driver of containers that name none, and its options; default json-file. */
  logDriver?: LogDriver;
  /** Where journald listens; default systemd's place. */
  journalSocket?: string;
  /** Name or path of the OCI runtime; default: the first that works. */
  runtime?: string;
  /** More OCI runtimes that containers may name: name → path. */
  runtimes?: Readonly<Record<string, string>>;
  /** Ids that users of new containers have on the host; default: the same. The volumes should have the same. */
  remap?: IdMapping;
  /** What containers get that say nothing themselves. */
  containerDefaults?: ContainerDefaults;
}

/** Facts about this engine for `docker info`. */
export interface EngineInfo {
  containers: { total: number; running: number; paused: number; stopped: number };
  images: number;
  cgroupDriver: CgroupDriver;
  cgroupVersion: '1' | '2';
  kernelVersion: string;
  architecture: string;
  cpus: number;
  memoryBytes: number;
  runtime: { name: string; path: string; version: string };
  conmonVersion: string;
  swapLimit: boolean;
  dataRoot: string;
  initDefault: boolean;
  /** OCI runtimes that are installed, the one in use first. */
  runtimes: readonly { name: string; path: string }[];
  /** Name of the init program that containers get; empty when none is installed. */
  initBinary: string;
  cdiDirectories: readonly string[];
  /** New containers have other ids on the host. */
  remapped: boolean;
}

/** The container engine of one host. Closing it leaves every container as it is; opening takes them over again. */
export class Engine {
  readonly containers: Containers;
  readonly terminals: Terminals;
  readonly files: ContainerFiles;
  readonly control: ContainerControl;
  /** What is counted of containers, for measurements. */
  readonly counters = new Counters();
  readonly images: Images;
  readonly volumes: Volumes;
  readonly networks: HostNetworks;
  readonly events: Watch<EngineEvent>;
  readonly doctor: Doctor;
  /** Absent: nothing is removed by itself. */
  readonly pressure: DiskPressure | undefined;
  readonly #options: EngineOptions;
  readonly #facts: RuntimeFacts;
  readonly #set: ContainerSet;
  readonly #past: EngineEvent[] = [];
  readonly #cgroups: Cgroups;
  readonly #parts: Parts;
  readonly #programs: HostPrograms;

  private constructor(
    options: EngineOptions,
    facts: RuntimeFacts,
    { cgroups, groups }: { cgroups: Cgroups; groups: GroupPlace },
    runtimes: Runtimes,
    programs: HostPrograms,
  ) {
    this.#programs = programs;
    this.#options = options;
    this.#facts = facts;
    this.#cgroups = cgroups;
    this.images = options.images;
    this.volumes = options.volumes;
    this.networks = options.networks;
    this.events = new Watch<EngineEvent>();
    const log = options.log.with({ component: 'engine' });
    const runtime = new Runtime(runtimePaths(options, facts), options.spawner, options.clock);
    const users = new ContainerUsers(new UserNamespaces(options.spawner), options.remap);
    const roots = new Roots(options.images, users.namespaces);
    const parts: Parts = {
      ...given(options),
      log,
      roots,
      users,
      cgroups,
      cdi: new CdiFiles(),
      runtimes,
      sysInfo: readSysInfo(cgroups.layout),
      runtime,
      streams: new ContainerStreams({ clock: options.clock, log, runtime }),
      store: new ContainerStore(join(options.dataRoot, 'containers'), options.log),
      starts: new Limiter(STARTS_PER_CPU * cpus().length),
      ...logParts(options),
      filesRoot: join(options.execRoot, 'files'),
      groups,
      defaultUlimits: options.defaultUlimits ?? [],
      swapAccounting: facts.swapAccounting,
      x32: facts.x32,
      initDefault: options.initDefault ?? false,
      defaults: options.containerDefaults ?? {},
      dns: options.dns ?? [],
      counters: this.counters,
      publish: (event) => this.publish(event),
      moved: (containerId) => this.#set.moved(containerId),
      find: (reference) => this.#set.find(reference),
    };
    this.#parts = parts;
    this.#set = new ContainerSet(parts);
    this.containers = this.#set;
    this.terminals = new EngineTerminals(parts, this.#set);
    this.files = new ContainerFiles({ ...options, roots, unit: (reference) => this.#set.unit(reference) });
    this.control = new Control({ set: this.#set, parts, files: this.files });
    this.pressure = diskPressure(options, this.#set, (event) => this.publish(event));
    this.doctor = this.#makeDoctor();
  }

  /**
   * Opens the engine: finds a runtime that works, reads its containers, takes over those that run.
   * @throws ShoalError FailedPrecondition when no runtime works here.
   */
  static async open(options: EngineOptions): Promise<Engine> {
    await mkdir(options.dataRoot, { recursive: true, mode: 0o711 });
    await mkdir(options.execRoot, { recursive: true, mode: 0o711 });
    if (options.logDriver !== undefined) checkLogDefaults(options.logDriver);
    const cgroups = new Cgroups(readCgroupLayout(), options.clock);
    const groups = groupsOf(options, cgroups);
    const probe = { ...options, cgroups, groups };
    const facts = await probeRuntime(probe, options.runtime);
    const recursiveReadOnly = await knowsRecursiveReadOnly(probe, facts.path);
    const runtimes = new Runtimes(facts.name, { path: facts.path, recursiveReadOnly }, probe, options.runtimes);
    await guardProcesses(cgroups, groups, options.log);
    const engine = new Engine(options, facts, { cgroups, groups }, runtimes, await findPrograms(facts));
    const { remap, dataRoot, images } = options;
    if (remap !== undefined) await checkRemap(dataRoot, remap, images, engine.#parts.users.namespaces);
    await engine.#set.open(() => engine.doctor.endStrays());
    await engine.doctor.repairAtStart();
    engine.pressure?.start();
    return engine;
  }

  /** Tells an event to all listeners and keeps it for those who ask later. Images and networks publish here too. */
  publish(event: EngineEvent): void {
    if (this.#past.length >= EVENTS_KEPT_MAX) this.#past.shift();
    this.#past.push(event);
    this.#options.onEvent?.(event);
    this.events.publish(event);
  }

  /** Kept events from `sinceMs` on, oldest first. */
  pastEvents(sinceMs: number, untilMs = Infinity): EngineEvent[] {
    return this.#past.filter((event) => event.timeMs >= sinceMs && event.timeMs <= untilMs);
  }

  info(): EngineInfo {
    const { name, path, version, conmonVersion, kernel, swapAccounting } = this.#facts;
    return {
      containers: this.#set.counts(),
      images: this.images.list().length,
      cgroupDriver: this.#parts.groups.driver,
      cgroupVersion: this.#facts.cgroups.version === 'v2' ? '2' : '1',
      kernelVersion: kernel,
      architecture: process.arch === 'x64' ? 'x86_64' : process.arch === 'arm64' ? 'aarch64' : process.arch,
      cpus: cpus().length,
      memoryBytes: totalmem(),
      runtime: { name, path, version },
      conmonVersion,
      swapLimit: swapAccounting,
      dataRoot: this.#options.dataRoot,
      initDefault: this.#options.initDefault ?? false,
      runtimes: this.#programs.runtimes,
      initBinary: this.#programs.init,
      cdiDirectories: CDI_DIRECTORIES,
      remapped: this.#options.remap !== undefined,
    };
  }

  /** Qualified names of the devices that vendors describe (CDI) by now, and what is wrong with their files. */
  async cdiDevices(): Promise<{ names: string[]; problems: readonly string[] }> {
    const { devices, problems } = await this.#parts.cdi.read();
    return { names: [...devices.keys()].sort(), problems };
  }

  /** What the kernel of this host can limit. */
  get sysInfo(): SysInfo {
    return this.#parts.sysInfo;
  }

  /** Log driver of containers that name none, from now on. @throws ShoalError InvalidArgument */
  setLogDefaults(driver: LogDriver): void {
    checkLogDefaults(driver);
    this.#parts.logDefaults = driver;
  }

  #makeDoctor(): Doctor {
    const { images, clock, log } = this.#options;
    return new Doctor({
      view: () => this.#hostView(),
      store: isExamined(images) ? images : undefined,
      clock,
      log: log.with({ component: 'doctor' }),
    });
  }

  #hostView(): HostView {
    const { dataRoot, execRoot, networks } = this.#options;
    return {
      dataRoot,
      execRoot,
      groups: [this.#parts.groups],
      cgroups: this.#cgroups,
      containers: this.#set.known(),
      unreadable: this.#parts.store.unreadable,
      alone: (id, work) => this.#set.aside(id, work),
      removeSandbox: (id) => networks.removeSandbox(id),
      recheck: (id) => this.#set.unit(id).check(),
    };
  }

  /** What is wrong with this host, a sentence each with the way out; empty when all is well. */
  probe(): Promise<string[]> {
    return probeEngineHost(this.#options, this.#cgroups);
  }

  /** Stops watching. The containers go on, and the next `open` takes them over. */
  async shutdown(): Promise<void> {
    await this.pressure?.close();
    await this.#set.close();
    this.#parts.streams.close();
    this.#parts.users.close();
    this.events.close();
  }
}

function isExamined(images: Images & Partial<ExaminedStore>): images is Images & ExaminedStore {
  return images.examine !== undefined;
}

/** What keeps and sends the logs of containers. */
function logParts(options: EngineOptions): Pick<Parts, 'logs' | 'shippers' | 'logDefaults'> {
  const common = { clock: options.clock, log: options.log.with({ component: 'logs' }) };
  const { journalSocket } = options;
  return {
    logs: new LogKeeper(common),
    shippers: new LogShippers({ ...common, ...(journalSocket === undefined ? {} : { journalSocket }) }),
    logDefaults: options.logDriver ?? { type: 'json-file', config: {} },
  };
}

/** What the engine is given and its containers need as it is. */
function given({
  clock,
  random,
  spawner,
  images,
  volumes,
  networks,
  swarm,
}: EngineOptions): Pick<Parts, 'clock' | 'random' | 'spawner' | 'images' | 'volumes' | 'networks' | 'swarm'> {
  return { clock, random, spawner, images, volumes, networks, swarm };
}

/** @throws ShoalError when control groups cannot be made as is asked for */
function groupsOf(options: Pick<EngineOptions, 'cgroupDriver' | 'cgroupParent'>, { layout }: Cgroups): GroupPlace {
  const { cgroupDriver: driver, cgroupParent: parent } = options;
  return chooseGroups({ driver, parent }, layout.version, systemdFacts());
}

function runtimePaths(options: EngineOptions, facts: RuntimeFacts): Runtime['paths'] {
  const { dataRoot, execRoot } = options;
  return {
    runtime: facts.path,
    conmon: facts.conmonPath,
    stateRoot: join(execRoot, 'runtime'),
    exitDir: join(execRoot, 'exits'),
    bundleRoot: join(execRoot, 'bundles'),
    attachDir: join(execRoot, 'attach'),
    execDir: join(execRoot, 'execs'),
    outputOwner: join(dataRoot, 'output-owner'),
    conmonArgs: conmonArguments(facts.conmonVersion),
  };
}

export type ProbeHostOptions = Pick<
  EngineOptions,
  'dataRoot' | 'spawner' | 'clock' | 'random' | 'cgroupDriver' | 'cgroupParent' | 'runtime'
>;

/** As `Engine.probe`, before an engine can be opened (`shoal doctor`, start of the daemon). */
export async function probeEngineHost(
  options: ProbeHostOptions,
  cgroups = new Cgroups(readCgroupLayout(), options.clock),
): Promise<string[]> {
  await mkdir(options.dataRoot, { recursive: true, mode: 0o711 });
  return probeHost({
    spawner: options.spawner,
    random: options.random,
    cgroups,
    groups: groupsOf(options, cgroups),
    dataRoot: options.dataRoot,
    ...(options.runtime === undefined ? {} : { runtime: options.runtime }),
  });
}
