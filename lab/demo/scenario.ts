import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { httpJson, must, systemClock } from '../../base/index.ts';
import { writeBusyboxArchive } from '../image.ts';
import type { Lab } from '../lab.ts';
import type { HostFacts } from '../names.ts';
import { get, runningTasks, Traffic, until, type StepResult } from './steps.ts';

const PORT = 8080;
/** What must hold: replicas of a crashed worker run elsewhere, and the API takes writes after the leader is lost. */
const WORKER_LOSS_LIMIT_S = 8;
const LEADER_LOSS_LIMIT_S = 3;

/** A web server that names its version and its container. */
function webCommand(version: string): string {
  return (
    `echo "${version} $(hostname)" >/var/www/index.html; trap 'exit 0' TERM; ` + 'httpd -f -p 80 -h /var/www & wait'
  );
}

const CLIENT_COMMAND = 'while true; do printf "GET / HTTP/1.0\\r\\n\\r\\n" | nc -w 2 web 80 | tail -1; sleep 1; done';

/** Runs the `shoal` client against a host. @throws Error with its words unless it exits with 0 */
export class Client {
  readonly #program: readonly string[];
  #host: string;

  constructor(program: readonly string[], host: string) {
    this.#program = program;
    this.#host = host;
  }

  get host(): string {
    return this.#host;
  }

  use(host: string): void {
    this.#host = host;
  }

  run(...args: string[]): string {
    const [file = '', ...before] = this.#program;
    const env = { ...process.env, DOCKER_HOST: this.#host };
    const result = spawnSync(file, [...before, ...args], { env, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 });
    if (result.status !== 0)
      throw new Error(`shoal ${args.join(' ')}: ${result.stderr.trim() || `exit ${result.status}`}`);
    return result.stdout.trim();
  }
}

export interface Scenario {
  lab: Lab;
  client: Client;
  hosts: HostFacts[];
  registry: string;
}

export type Step = { title: string; run: (scenario: Scenario) => Promise<string> };

async function serveImages({ client, registry }: Scenario): Promise<string> {
  const dir = mkdtempSync(join(tmpdir(), 'shoal-demo-'));
  try {
    const archive = join(dir, 'busybox.tar');
    await writeBusyboxArchive(archive);
    for (const version of ['v1', 'v2']) {
      const image = `${registry}/web:${version}`;
      client.run('import', '--change', `CMD ["sh","-c",${JSON.stringify(webCommand(version))}]`, archive, image);
      client.run('push', image);
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return `web:v1 and web:v2 pushed to ${registry}`;
}

async function replicas(scenario: Scenario, service: string, count: number, timeoutS: number): Promise<void> {
  await until(`${service} ${count}/${count}`, timeoutS * 1000, async () => {
    const running = await runningTasks(scenario.client.host, service);
    return running.length === count ? true : undefined;
  });
}

async function createService(scenario: Scenario): Promise<string> {
  const { client, registry } = scenario;
  client.run('network', 'create', '--driver', 'overlay', 'front');
  const flags = ['--detach', '--name', 'web', '--replicas', '6', '--network', 'front', '--publish', `${PORT}:80`];
  client.run(
    'service',
    'create',
    ...flags,
    '--update-parallelism',
    '2',
    '--update-order',
    'start-first',
    `${registry}/web:v1`,
  );
  await replicas(scenario, 'web', 6, 30);
  const nodes = new Set((await runningTasks(client.host, 'web')).map((task) => task.NodeID));
  return `6 replicas run on ${nodes.size} hosts`;
}

async function reachEveryHost({ hosts }: Scenario): Promise<string> {
  const seen = new Set<string>();
  for (const host of hosts) {
    for (let i = 0; i < 6; i++) {
      seen.add(await until(`port ${PORT} of ${host.name}`, 5_000, () => get(`http://${host.address}:${PORT}/`)));
    }
  }
  return `port ${PORT} answers on all ${hosts.length} hosts, by ${seen.size} different containers`;
}

async function callByName(scenario: Scenario): Promise<string> {
  const { client, registry } = scenario;
  const flags = ['--detach', '--name', 'client', '--network', 'front'];
  client.run('service', 'create', ...flags, `${registry}/web:v1`, 'sh', '-c', CLIENT_COMMAND);
  const answers = await until('answers by name', 20_000, () => {
    const lines = client
      .run('service', 'logs', '--raw', 'client')
      .split('\n')
      .filter((line) => line.startsWith('v1 '));
    return new Set(lines).size >= 2 ? lines : undefined;
  });
  return `a container asked "web" by name; ${new Set(answers).size} replicas answered in turn`;
}

async function scale(scenario: Scenario): Promise<string> {
  scenario.client.run('service', 'scale', '--detach', 'web=12');
  await replicas(scenario, 'web', 12, 30);
  return 'from 6 to 12 replicas';
}

/** Does something while requests come in on every host; none may fail. Tells what the requests saw. */
async function underLoad(
  scenario: Scenario,
  work: () => Promise<void>,
): Promise<{ traffic: Traffic; summary: string }> {
  const traffic = new Traffic(scenario.hosts.map((host) => `http://${host.address}:${PORT}/`));
  traffic.start(25);
  try {
    await work();
    await systemClock.sleep(500);
  } finally {
    await traffic.stop();
  }
  const total = traffic.answered + traffic.failures.length;
  const summary = `${total} requests meanwhile, ${traffic.failures.length} failed`;
  if (traffic.failures.length > 0) throw new Error(`${summary}; first: ${traffic.failures[0]}`);
  return { traffic, summary };
}

async function rollingUpdate(scenario: Scenario): Promise<string> {
  const { client, registry } = scenario;
  const { traffic, summary } = await underLoad(scenario, async () => {
    const flags = ['--detach', '--update-monitor', '1s', '--update-parallelism', '4'];
    client.run('service', 'update', ...flags, '--image', `${registry}/web:v2`, 'web');
    await until('all replicas on v2', 60_000, async () => {
      const running = await runningTasks(client.host, 'web');
      const updated = running.filter((task) => task.Spec.ContainerSpec.Image.includes('/web:v2'));
      return updated.length === 12 && running.length === 12 ? true : undefined;
    });
  });
  if ((traffic.bodies.get('v2') ?? 0) === 0) throw new Error(`${summary}; none was answered by v2`);
  return `v1 to v2; ${summary}`;
}

async function drainHost(scenario: Scenario): Promise<string> {
  const { client, hosts } = scenario;
  const host = must(
    hosts.find(({ role }) => role === 'worker'),
    'worker',
  );
  const id = (await nodeIds(client.host)).get(host.name);
  const here = (await runningTasks(client.host, 'web')).filter((task) => task.NodeID === id).length;
  const { summary } = await underLoad(scenario, async () => {
    client.run('node', 'update', '--availability', 'drain', host.name);
    await until('replicas elsewhere', 60_000, async () => {
      const elsewhere = (await runningTasks(client.host, 'web')).filter((task) => task.NodeID !== id);
      return elsewhere.length === 12 ? true : undefined;
    });
  });
  client.run('node', 'update', '--availability', 'active', host.name);
  return `${here} replicas of ${host.name} moved; ${summary}`;
}

async function nodeIds(host: string): Promise<Map<string, string>> {
  interface NodeFacts {
    ID: string;
    Description: { Hostname: string };
    ManagerStatus?: { Leader?: boolean };
  }
  const nodes = await httpJson<NodeFacts[]>({ host, method: 'GET', path: '/nodes', timeoutMs: 2_000 });
  const names = new Map(nodes.map((node) => [node.Description.Hostname, node.ID]));
  const leader = nodes.find((node) => node.ManagerStatus?.Leader === true);
  if (leader !== undefined) names.set('leader', leader.Description.Hostname);
  return names;
}

async function crashWorker(scenario: Scenario): Promise<string> {
  const { lab, client, hosts } = scenario;
  const victim = must(hosts.filter((host) => host.role === 'worker').at(-1), 'worker');
  const id = (await nodeIds(client.host)).get(victim.name);
  const before = (await runningTasks(client.host, 'web')).filter((task) => task.NodeID === id).length;
  const began = systemClock.monotonic();
  await lab.crash(victim.name);
  await until('replicas elsewhere', 30_000, async () => {
    const running = (await runningTasks(client.host, 'web')).filter((task) => task.NodeID !== id);
    return running.length >= 12 ? true : undefined;
  });
  const seconds = (systemClock.monotonic() - began) / 1000;
  if (seconds > WORKER_LOSS_LIMIT_S)
    throw new Error(`took ${seconds.toFixed(1)} s, more than ${WORKER_LOSS_LIMIT_S} s`);
  scenario.hosts = hosts.filter((host) => host !== victim);
  return `${victim.name} vanished; its ${before} replicas run elsewhere after ${seconds.toFixed(1)} s`;
}

async function crashLeader(scenario: Scenario): Promise<string> {
  const { lab, client, hosts } = scenario;
  const leader = must((await nodeIds(client.host)).get('leader'), 'leader');
  const other = must(
    hosts.find((host) => host.role === 'manager' && host.name !== leader),
    'another manager',
  );
  const began = systemClock.monotonic();
  await lab.crash(leader);
  client.use(other.docker_host);
  await until('a write is answered', 30_000, () => {
    client.run('service', 'update', '--detach', '--label-add', 'after=leader-loss', 'client');
    return true;
  });
  const seconds = (systemClock.monotonic() - began) / 1000;
  if (seconds > LEADER_LOSS_LIMIT_S)
    throw new Error(`took ${seconds.toFixed(1)} s, more than ${LEADER_LOSS_LIMIT_S} s`);
  scenario.hosts = hosts.filter((host) => host.name !== leader);
  const successor = await until('a leader is known', 5_000, async () => (await nodeIds(client.host)).get('leader'));
  return `leader ${leader} vanished; ${successor} leads, a write was answered after ${seconds.toFixed(1)} s`;
}

/** The demo's story, in order. */
export const STEPS: readonly Step[] = [
  { title: 'Serve an image', run: serveImages },
  { title: 'Create a service', run: createService },
  { title: 'Reach it from outside', run: reachEveryHost },
  { title: 'Call it by name', run: callByName },
  { title: 'Scale', run: scale },
  { title: 'Roll out a new image', run: rollingUpdate },
  { title: 'Drain a host', run: drainHost },
  { title: 'Lose a worker', run: crashWorker },
  { title: 'Lose the leader', run: crashLeader },
];

/** Runs one step and times it. */
export async function runStep(step: Step, scenario: Scenario): Promise<StepResult> {
  const began = systemClock.monotonic();
  const done = (held: boolean, what: string): StepResult => ({
    title: step.title,
    held,
    what,
    seconds: (systemClock.monotonic() - began) / 1000,
  });
  try {
    return done(true, await step.run(scenario));
  } catch (error) {
    return done(false, error instanceof Error ? error.message : String(error));
  }
}
