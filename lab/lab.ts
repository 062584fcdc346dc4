import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { dirname } from 'node:path';
import { spawnSync } from 'node:child_process';
import {
  conflict,
  directSpawner,
  invalidArgument,
  notFound,
  readFileIfExists,
  writeFileDurably,
  type SpawnRequest,
  type SpawnResult,
} from '../base/index.ts';
import { killCgroup, makeCgroup, removeCgroup, removeCgroupIfEmpty } from './cgroups.ts';
import { Host } from './host.ts';
import {
  addressAt,
  hostNames,
  LabNames,
  parseSubnet,
  subnetText,
  type HostFacts,
  type Role,
  type Subnet,
} from './names.ts';
import { leftovers } from './leftovers.ts';
import { withLock } from './lock.ts';
import { cutHost, healHost, makeBridge, removeBridge } from './network.ts';
import { startRegistry } from './registry.ts';
import { formSwarm } from './swarm.ts';

/** Address of the switch, and of the first host, within the subnet. */
const SWITCH_AT = 1;
const FIRST_HOST_AT = 11;

interface LabState {
  subnet: string;
  hosts: { name: string; role: Role; address: string }[];
  daemonFlags: string[];
}

export interface UpOptions {
  managers: number;
  workers: number;
  /** Chosen when empty. */
  subnet: string;
  swarm: boolean;
  daemonFlags: readonly string[];
  /** False makes the hosts alone: the caller runs a program of its own in them (the benchmarks do). Default true. */
  daemons?: boolean;
}

/** One lab by its name. Verbs throw ShoalErrors with words for the user. */
export class Lab {
  readonly names: LabNames;

  constructor(name: string) {
    this.names = new LabNames(name);
  }

  #state(): LabState {
    const text = readFileIfExists(this.names.stateFile);
    if (text === undefined) throw notFound(`there is no lab "${this.names.name}": start it with shoal lab up`);
    return JSON.parse(text) as LabState;
  }

  #host(name: string, state = this.#state()): Host {
    const host = state.hosts.find((candidate) => candidate.name === name);
    if (host === undefined) {
      throw notFound(`no host "${name}" in lab "${this.names.name}": ${state.hosts.map((h) => h.name).join(', ')}`);
    }
    const subnet = parseSubnet(state.subnet);
    return new Host({
      names: this.names,
      host: name,
      address: host.address,
      prefix: subnet.prefix,
      gateway: addressAt(subnet, SWITCH_AT),
      subnet: state.subnet,
      daemonFlags: state.daemonFlags,
    });
  }

  /** Starts hosts and daemons, and forms the swarm when asked. */
  async up(options: UpOptions): Promise<HostFacts[]> {
    if (process.getuid?.() !== 0) throw invalidArgument('a lab needs root: namespaces, mounts and cgroups are made');
    if (existsSync(this.names.stateFile)) {
      throw conflict(`lab "${this.names.name}" is already up: use it, or remove it with shoal lab down`);
    }
    // Two labs that begin at the same moment must not choose the same subnet.
    const { state, subnet } = await withLock(LOCK_FILE, () => this.#claim(options));
    const { hosts } = state;
    try {
      await makeBridge(this.names, addressAt(subnet, SWITCH_AT), subnet.prefix);
      const handles = hosts.map((host) => this.#host(host.name, state));
      await Promise.all(handles.map((host) => host.create()));
      if (options.daemons !== false) {
        for (const host of handles) host.launchDaemon();
        await Promise.all(handles.map((host) => host.waitForDaemon()));
      }
      if (options.swarm) await formSwarm(this.list());
    } catch (error) {
      await this.down();
      throw error;
    }
    return this.list();
  }

  /** Chooses subnet and addresses and writes them down. */
  #claim(options: UpOptions): { state: LabState; subnet: Subnet } {
    const wanted = hostNames(options.managers, options.workers);
    const subnet = parseSubnet(options.subnet === '' ? freeSubnet() : options.subnet);
    const small = subnet.prefix > 26;
    const hosts = wanted.map((host, i) => ({ ...host, address: addressAt(subnet, (small ? 2 : FIRST_HOST_AT) + i) }));
    const state: LabState = { subnet: subnetText(subnet), hosts, daemonFlags: [...options.daemonFlags] };
    mkdirSync(this.names.runDir, { recursive: true, mode: 0o700 });
    writeFileDurably(this.names.stateFile, JSON.stringify(state, undefined, 2));
    return { state, subnet };
  }

  list(): HostFacts[] {
    const state = this.#state();
    return state.hosts.map((host) => ({
      name: host.name,
      address: host.address,
      docker_host: this.names.dockerHost(host.name),
      pid: this.#host(host.name, state).daemonPid(),
      role: host.role,
    }));
  }

  /** The value of DOCKER_HOST for a host. */
  env(host: string): string {
    return this.#host(host).dockerHost;
  }

  /** Process that holds the namespaces of a host, 0 when the host is down. */
  holder(name: string): number {
    return this.#host(name).holderPid();
  }

  /** Runs a command on a host with this terminal; returns its exit code. */
  exec(name: string, command: readonly string[]): number {
    const host = this.#host(name);
    const holder = host.holderPid();
    if (holder === 0) throw notFound(`host ${name} is down: start it with shoal lab start ${name}`);
    const args = ['--target', String(holder), '--net', '--mount', '--uts', '--', ...command];
    const env = { ...process.env, DOCKER_HOST: host.dockerHost };
    const result = spawnSync('nsenter', args, { stdio: 'inherit', env });
    return result.status ?? 128;
  }

  /**
   * Runs a command on a host to its end and collects what it writes. It belongs to the host: what it leaves behind
   * ends with the host.
   */
  async capture(name: string, command: readonly string[], more: Partial<SpawnRequest> = {}): Promise<SpawnResult> {
    const host = this.#host(name);
    const holder = host.holderPid();
    if (holder === 0) throw notFound(`host ${name} is down: start it with shoal lab start ${name}`);
    const enter = ['nsenter', '--target', String(holder), '--net', '--mount', '--uts', '--', ...command];
    const script = 'echo $$ >"$0" && exec "$@"';
    return await directSpawner.run({
      file: 'sh',
      args: ['-c', script, makeCgroup(this.names.hostCgroup(name)), ...enter],
      ...more,
    });
  }

  /** What is still there of the lab: processes, cgroups, links, mounts, files. Nothing after `down`. */
  leftovers(): string[] {
    return leftovers(this.names);
  }

  /** Cuts hosts off from all others of the lab; the machine itself still reaches them. */
  async partition(hosts: readonly string[], oneway: boolean): Promise<void> {
    if (hosts.length === 0) throw invalidArgument('name the hosts to cut off: shoal lab partition HOST...');
    const state = this.#state();
    const handles = hosts.map((name) => this.#host(name, state));
    const others = state.hosts.filter((host) => !hosts.includes(host.name)).map((host) => host.address);
    if (others.length === 0) throw invalidArgument('there is no other host to be cut off from');
    for (const handle of handles) await cutHost(handle.holderPid(), others, oneway);
  }

  /** Ends the partition of the named hosts, or of all. */
  async heal(hosts?: readonly string[]): Promise<void> {
    const state = this.#state();
    for (const { name } of state.hosts) {
      if (hosts !== undefined && !hosts.includes(name)) continue;
      const holder = this.#host(name, state).holderPid();
      if (holder !== 0) await healHost(holder);
    }
  }

  async kill(name: string): Promise<void> {
    await this.#host(name).killDaemon();
  }

  pause(name: string): void {
    this.#host(name).signalDaemon('SIGSTOP');
  }

  resume(name: string): void {
    this.#host(name).signalDaemon('SIGCONT');
  }

  async crash(name: string): Promise<void> {
    await this.#host(name).crash();
  }

  /** Makes the host again when it has crashed, and starts its daemon when it does not run. */
  async start(name: string): Promise<void> {
    const host = this.#host(name);
    await host.create();
    await host.startDaemon();
  }

  async registry(): Promise<string> {
    return await startRegistry(this.names, addressAt(parseSubnet(this.#state().subnet), SWITCH_AT));
  }

  /** Removes everything of the lab, however much of it there is. */
  async down(): Promise<void> {
    await killCgroup(this.names.cgroup);
    removeCgroup(this.names.cgroup);
    removeCgroupIfEmpty(dirname(this.names.cgroup));
    await removeBridge(this.names);
    rmSync(this.names.runDir, { recursive: true, force: true });
    rmSync(this.names.dataDir, { recursive: true, force: true });
    for (const parent of ['/run/shoal-lab', '/var/lib/shoal-lab']) {
      try {
        // Never by force: another lab may be making its own directory there right now.
        rmdirSync(parent);
      } catch {
        // Not empty, or gone.
      }
    }
  }
}

/** Held while a lab chooses its subnet. */
const LOCK_FILE = '/run/shoal-lab.lock';

/** A /24 of 172.30 that neither this machine nor another lab uses. */
function freeSubnet(): string {
  const used = new Set<string>();
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { address } of addresses ?? []) used.add(address.split('.').slice(0, 3).join('.'));
  }
  const root = '/run/shoal-lab';
  for (const name of existsSync(root) ? readdirSync(root) : []) {
    const file = new LabNames(name).stateFile;
    if (!existsSync(file)) continue;
    const { subnet } = JSON.parse(readFileSync(file, 'utf8')) as LabState;
    used.add(subnet.split('.').slice(0, 3).join('.'));
  }
  for (let third = 0; third < 256; third++) {
    if (!used.has(`172.30.${third}`)) return `172.30.${third}.0/24`;
  }
  throw conflict('no free subnet in 172.30.0.0/16: give one with --subnet');
}
