import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Node, NodeSpec_Availability, NodeStatus_State, Task, TaskState, type Partially } from '../proto/index.ts';
import { groupTasks, Scheduler, type Decisions } from '../scheduler/index.ts';

/** One load on one size of cluster; the argument of this program, as JSON. */
export interface LoadSettings {
  load: 'small-services' | 'big-services' | 'constraints' | 'reservations';
  nodes: number;
  tasks: number;
  runs: number;
}

/** One pass over all tasks. */
export interface LoadRun {
  ms: number;
  /** Processor time of all threads of the process, those of the garbage collector included. */
  cpuMs: number;
  placementsPerSecond: number;
  /** Resident memory just before (nodes and tasks are there) and just after, bytes. */
  rssBeforeBytes: number;
  rssAfterBytes: number;
}

export interface LoadResult {
  runs: LoadRun[];
  /** VmHWM of the process at the end, bytes. */
  peakRssBytes: number;
}

const NODE_CPUS = 64e9;
const NODE_MEMORY = 256 * 2 ** 30;
/** Share of the cluster that reservations fill. */
const FILL = 0.8;
const REPLICAS = 100;
const BIG_SERVICES = 5;
const WARM_UP = { nodes: 200, tasks: 20_000, runs: 2 };

function nodeOf(i: number): Node {
  return Node.create({
    id: `node${String(i).padStart(6, '0')}`,
    spec: {
      availability: NodeSpec_Availability.ACTIVE,
      annotations: { labels: { zone: `z${i % 3}`, rack: `r${i % 30}`, disk: i % 10 === 0 ? 'hdd' : 'ssd' } },
    },
    status: { state: NodeStatus_State.READY, addr: '10.0.0.1' },
    description: {
      hostname: `host${i}`,
      platform: { os: 'linux', architecture: 'x86_64' },
      resources: { nano_cpus: NODE_CPUS, memory_bytes: NODE_MEMORY },
    },
  });
}

/** The part of the spec that makes the load. Services differ, their tasks do not. */
function specOf(settings: LoadSettings, service: number): Partially<Task['spec']> {
  const perNode = settings.tasks / settings.nodes;
  switch (settings.load) {
    case 'constraints':
      return {
        placement: {
          constraints: ['node.role == worker', 'node.labels.disk == ssd', 'node.platform.os == linux'],
          preferences: ['zone', 'rack'].map((label) => ({ spread: { spread_descriptor: `node.labels.${label}` } })),
        },
      };
    case 'reservations': {
      // From half to one and a half times the average, whose sum is FILL.
      const share = (FILL * (50 + (service % 101))) / 100 / perNode;
      const reservations = { nano_cpus: Math.floor(share * NODE_CPUS), memory_bytes: Math.floor(share * NODE_MEMORY) };
      return { resources: { reservations } };
    }
    case 'small-services':
    case 'big-services':
      return {};
  }
}

/** Tasks as the store holds them: each with a spec object of its own. */
function tasksOf(settings: LoadSettings): Task[] {
  const services = settings.load === 'big-services' ? BIG_SERVICES : Math.ceil(settings.tasks / REPLICAS);
  const replicas = Math.ceil(settings.tasks / services);
  return Array.from({ length: settings.tasks }, (_, i) => {
    const service = Math.floor(i / replicas);
    const name = `service${service}`;
    return Task.create({
      id: `task${i}`,
      service_id: name,
      service_annotations: { name, labels: { tier: 'web' } },
      slot: (i % replicas) + 1,
      spec_version: { index: 1 },
      status: { state: TaskState.PENDING },
      desired_state: TaskState.RUNNING,
      spec: { container: { image: 'nginx' }, ...specOf(settings, service) },
    });
  });
}

function check(settings: LoadSettings, nodes: readonly Node[], { assignments, unplaced }: Decisions): void {
  if (assignments.length !== settings.tasks) {
    throw new Error(`${unplaced.length} tasks were not placed: ${unplaced[0]?.explanation}`);
  }
  const counts = new Map<string, number>(nodes.map((node) => [node.id, 0]));
  for (const { nodeId } of assignments) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1);
  const isFree = settings.load === 'small-services' || settings.load === 'big-services';
  const uneven = Math.max(...counts.values()) - Math.min(...counts.values());
  if (isFree && uneven > 1) throw new Error(`the nodes differ by ${uneven} tasks`);
}

function runOnce(settings: LoadSettings): LoadRun {
  const nodes = Array.from({ length: settings.nodes }, (_, i) => nodeOf(i));
  const tasks = tasksOf(settings);
  const scheduler = new Scheduler();
  for (const node of nodes) scheduler.setNode(node);
  globalThis.gc?.();
  const rssBeforeBytes = process.memoryUsage.rss();
  const cpu = process.cpuUsage();
  const began = performance.now();
  const decisions = scheduler.schedule(groupTasks(tasks), 0);
  const ms = performance.now() - began;
  const used = process.cpuUsage(cpu);
  const rssAfterBytes = process.memoryUsage.rss();
  check(settings, nodes, decisions);
  const cpuMs = (used.user + used.system) / 1000;
  return { ms, cpuMs, placementsPerSecond: (settings.tasks / ms) * 1000, rssBeforeBytes, rssAfterBytes };
}

const settings = JSON.parse(process.argv[2] ?? '{}') as LoadSettings;
for (let i = 0; i < WARM_UP.runs; i++) runOnce({ ...settings, ...WARM_UP });
const runs = Array.from({ length: settings.runs }, () => runOnce(settings));
const peakKb = Number(/^VmHWM:\s+(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0);
process.stdout.write(`${JSON.stringify({ runs, peakRssBytes: peakKb * 1024 } satisfies LoadResult)}\n`);
