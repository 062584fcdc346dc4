import { mkdtempSync, rmSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { httpJson, must, readFileIfExists, ShoalError, systemClock } from '../../base/index.ts';
import { Lab, leftovers, type HostFacts } from '../../lab/index.ts';
import { AgentHosts, buildAgentHost } from './agents.ts';
import { drainManagers, findLeader, NO_IMAGE, PORT } from './managers.ts';
import { ApiProbe } from './api-probe.ts';
import { processUse, setSessionPriority } from './processes.ts';
import { printCluster, storeCluster } from './print.ts';
import type { HostReport } from './protocol.ts';
import type { ClusterResult, LoadResult, LoadUse } from './result.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const MANAGERS = 3;
const AGENT_PROCESSES = 2;
const JOIN_TIMEOUT_MS = 200_000;
const RUN_TIMEOUT_MS = 150_000;
/** Lines of each manager's log that are shown when the benchmark fails. */
const LOG_LINES = 20;
/** Each manager has a machine of its own where it matters; here they share one, and the leader is what is measured. */
const LEADER_NICE = -15;
const FOLLOWER_NICE = -10;
/** Time for a profile to begin or to be written, ms. */
const PROFILE_MS = 1000;
/** Services that are created at the same time. */
const CREATE_AT_ONCE = 8;

export interface ClusterOptions {
  agents: number;
  tasks: number;
  services: number;
  /** Replicas of the one big service that follows; 0 for none. */
  big: number;
  startMs: number;
  /** Agents connect to all managers, of which two forward their calls; else to the leader. */
  spread: boolean;
  /** Agents of each of the two processes that join, and later connect, at the same time. */
  atOnce: number;
  signal: AbortSignal;
}

interface Bed {
  hosts: HostFacts[];
  leader: HostFacts;
  agents: AgentHosts;
}

/** Measures the whole control plane under the load of simulated agents; prints and stores the figures. */
export async function clusterBench(options: ClusterOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const lab = new Lab(`bench-cluster-${process.pid}`);
  const [loadBefore = 0] = loadavg();
  let agents: AgentHosts | undefined;
  try {
    const program = await buildAgentHost(ROOT, scratch);
    const up = { managers: MANAGERS, workers: 0, subnet: '', swarm: true, daemonFlags: [] };
    const hosts = await lab.up(up);
    agents = new AgentHosts(program, AGENT_PROCESSES);
    const bed = { hosts, leader: must(hosts[0], 'first manager'), agents };
    const result = { ...(await measure(bed, options, loadBefore)), heldUp: heldUp(lab) };
    storeCluster(result);
    printCluster(result);
  } catch (error) {
    console.error(logTails(lab));
    throw error;
  } finally {
    agents?.stop();
    await lab.down();
    const left = leftovers(lab.names);
    if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
    rmSync(scratch, { recursive: true, force: true });
  }
}

function logTails(lab: Lab): string {
  const tail = (name: string): string => {
    const text = readFileIfExists(join(lab.names.hostRunDir(name), 'daemon.log')) ?? '';
    return `log of ${name} ends:\n${text.split('\n').slice(-LOG_LINES).join('\n')}`;
  };
  return Array.from({ length: MANAGERS }, (_, i) => tail(`m${i + 1}`)).join('\n');
}

function heldUp(lab: Lab): number[] {
  return Array.from({ length: MANAGERS }, (_, i) => {
    const text = readFileIfExists(join(lab.names.hostRunDir(`m${i + 1}`), 'daemon.log')) ?? '';
    return text.split('this process was held up').length - 1;
  });
}

async function measure(bed: Bed, options: ClusterOptions, loadBefore: number): Promise<Omit<ClusterResult, 'heldUp'>> {
  const { agents } = bed;
  const { signal } = options;
  await drainManagers(bed.leader, bed.hosts, signal);
  const { seconds: joinSeconds, uses: joining } = await usesDuring(bed, () => joinAgents(bed, options));
  console.log(`${options.agents} nodes joined in ${joinSeconds.toFixed(1)} s`);
  bed.leader = await findLeader(bed.hosts);
  for (const host of bed.hosts) setSessionPriority(host.pid, host === bed.leader ? LEADER_NICE : FOLLOWER_NICE);
  const { seconds: connectSeconds, uses: connecting } = await usesDuring(bed, async () => {
    agents.connect((options.spread ? bed.hosts : [bed.leader]).map((host) => `${host.address}:${PORT}`));
    const all = (total: HostReport): boolean => failOnLoss(total).connected === options.agents;
    await agents.until('agents connected', all, JOIN_TIMEOUT_MS, signal);
  });
  console.log(`${options.agents} agents connected in ${connectSeconds.toFixed(1)} s`);
  await systemClock.sleep(2000, signal);
  const idle = await usesDuring(bed, () => systemClock.sleep(3000, signal));
  const loads: LoadResult[] = [];
  const each = Math.floor(options.tasks / options.services);
  loads.push(await load(bed, options, { name: 'many', services: options.services, replicas: each }));
  if (options.big > 0) loads.push(await load(bed, options, { name: 'big', services: 1, replicas: options.big }));
  const nodes = await httpJson<{ Status: { State: string } }[]>({
    ...{ host: bed.leader.docker_host, method: 'GET', path: '/nodes' },
  });
  const nodesNotReady = nodes.filter((node) => node.Status.State !== 'ready').length;
  const { agents: count, spread, atOnce, startMs } = options;
  return {
    agents: count,
    ...{ spread, atOnce, startMs, loadBefore, joinSeconds, connectSeconds, joining, connecting },
    idle: idle.uses,
    loads,
    nodesNotReady,
  };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = systemClock.monotonic();
  await work();
  return (systemClock.monotonic() - began) / 1000;
}

async function joinAgents({ leader, agents }: Bed, options: ClusterOptions): Promise<void> {
  const host = leader.docker_host;
  interface Swarm {
    JoinTokens: { Worker: string };
    TLSInfo: { TrustRoot: string };
  }
  const swarm = await httpJson<Swarm>({ host, method: 'GET', path: '/swarm' });
  const manager = `${leader.address}:${PORT}`;
  const { agents: count, startMs, atOnce } = options;
  const ca = { token: swarm.JoinTokens.Worker, rootCa: swarm.TLSInfo.TrustRoot };
  const given = { manager, ...ca, agents: count, startMs, atOnce };
  agents.join(given);
  const done = (total: HostReport): boolean => failOnLoss(total).joined === count;
  await agents.until('nodes joined', done, JOIN_TIMEOUT_MS, options.signal);
}

function failOnLoss(total: HostReport): HostReport {
  if (total.errors.length > 0)
    throw new ShoalError('Internal', `agents failed: ${total.errors.slice(0, 3).join('; ')}`);
  return total;
}

/** Processor time and memory of all processes while `work` runs. */
async function usesDuring(bed: Bed, work: () => Promise<unknown>): Promise<{ seconds: number; uses: LoadUse[] }> {
  const processes = [
    ...bed.hosts.map((host) => ({ process: host === bed.leader ? `${host.name} (leader)` : host.name, pid: host.pid })),
    ...bed.agents.pids().map((pid, i) => ({ process: `agents ${i + 1}`, pid })),
  ];
  await signalProfile(bed);
  const before = processes.map(({ pid }) => processUse(pid).cpuSeconds);
  const seconds = await timed(work).catch(async (error: unknown) => {
    await signalProfile(bed);
    throw error;
  });
  const uses = processes.map(({ process, pid }, i) => {
    const use = processUse(pid);
    const cpuSeconds = use.cpuSeconds - must(before[i], 'processor time');
    return { ...use, process, cpuSeconds, cpuShare: cpuSeconds / seconds };
  });
  await signalProfile(bed);
  return { seconds, uses };
}

async function load(
  bed: Bed,
  options: ClusterOptions,
  wanted: { name: string; services: number; replicas: number },
): Promise<LoadResult> {
  const { agents, leader } = bed;
  const host = leader.docker_host;
  const tasks = wanted.services * wanted.replicas;
  const before = agents.total();
  const nodes = await httpJson<{ ID: string }[]>({ host, method: 'GET', path: '/nodes' });
  const ids: string[] = [];
  let turn = 0;
  const nodePath = (): string => `/nodes/${must(nodes[turn++ % nodes.length], 'node').ID}`;
  const probe = new ApiProbe(host, [
    { what: 'GET /services', path: () => '/services' },
    { what: 'GET /nodes/{id}', path: nodePath },
    {
      what: 'GET /services/{id}',
      path: () => (ids.length === 0 ? '/services' : `/services/${ids[turn++ % ids.length]}`),
    },
  ]);
  probe.start();
  let createSeconds = 0;
  const { seconds, uses } = await usesDuring(bed, async () => {
    createSeconds = await timed(async () => {
      let next = 0;
      const client = async (): Promise<void> => {
        while (next < wanted.services) ids.push(await create(host, `${wanted.name}-${next++}`, wanted.replicas));
      };
      await Promise.all(Array.from({ length: CREATE_AT_ONCE }, client));
    });
    const done = (total: HostReport): boolean => failOnLoss(total).running >= before.running + tasks;
    await agents.until(`${tasks} tasks Running`, done, RUN_TIMEOUT_MS, options.signal);
  }).catch(async (error: unknown) => {
    await probe.stop();
    throw error;
  });
  const api = await probe.stop();
  await checkRunning(host, tasks, ids);
  const after = agents.total();
  const what = `${wanted.services} × ${wanted.replicas}`;
  console.log(`${what}: ${tasks} tasks Running after ${seconds.toFixed(1)} s, ${(tasks / seconds).toFixed(0)}/s`);
  return {
    ...{ what, tasks, createSeconds, seconds, tasksPerSecond: tasks / seconds, api, uses },
    heartbeats: after.heartbeats - before.heartbeats,
    ...{ heartbeatMaxMs: after.heartbeatMaxMs, heartbeatsSlow: after.heartbeatsSlow, sessionsLost: after.sessionsLost },
    ...{ reports: after.reports - before.reports, messages: after.messages - before.messages },
  };
}

async function create(host: string, name: string, replicas: number): Promise<string> {
  const body = {
    Name: name,
    TaskTemplate: {
      ContainerSpec: { Image: NO_IMAGE, Command: ['/bin/sleep', '1000000'], Env: ['MODE=bench', 'LEVEL=info'] },
      Resources: { Reservations: { NanoCPUs: 10_000_000, MemoryBytes: 4 * 2 ** 20 } },
      RestartPolicy: { Condition: 'any' },
    },
    Mode: { Replicated: { Replicas: replicas } },
  };
  return (await httpJson<{ ID: string }>({ host, method: 'POST', path: '/services/create', body })).ID;
}

/** What the agents counted must be what the store says. */
async function checkRunning(host: string, tasks: number, ids: readonly string[]): Promise<void> {
  const path = '/services?status=true';
  interface ApiService {
    ID: string;
    ServiceStatus?: { RunningTasks: number };
  }
  const services = await httpJson<ApiService[]>({ host, method: 'GET', path });
  const running = services
    .filter((service) => ids.includes(service.ID))
    .reduce((sum, service) => sum + (service.ServiceStatus?.RunningTasks ?? 0), 0);
  if (running !== tasks) throw new ShoalError('Internal', `the store shows ${running} tasks Running, not ${tasks}`);
}

/** Tells daemons that were started with a profiler (NODE_OPTIONS, see README) when the load begins and ends. */
async function signalProfile({ hosts }: Bed): Promise<void> {
  if (process.env['SHOAL_BENCH_PROFILE'] !== '1') return;
  for (const { pid } of hosts) process.kill(pid, 'SIGUSR2');
  await systemClock.sleep(PROFILE_MS);
}
