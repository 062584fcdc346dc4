import { fork } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { httpJson, must, ShoalError, systemClock } from '../../base/index.ts';
import { Lab, leftovers, type HostFacts } from '../../lab/index.ts';
import { buildAgentHost } from '../cluster/agents.ts';
import { drainManagers, findLeader, NO_IMAGE, PORT } from '../cluster/managers.ts';
import { median } from '../measure.ts';
import { NETWORK_NAME, type PushOrder, type PushReport, type PushRun } from './push-protocol.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const ROOT = join(HERE, '..', '..');
const MANAGERS = 3;
const AGENTS = 100;
const ENDPOINTS = 1000;
/** Each with tasks of its own; the first finds caches cold and counts like the others. */
const RUNS_MAX = 5;
const CONNECT_TIMEOUT_MS = 60_000;
const RUN_TIMEOUT_MS = 60_000;
const POLL_MS = 20;
/** What agents still get of the tasks' coming when they hold them. */
const SETTLE_MS = 2000;

export interface PushResult {
  agents: number;
  endpoints: number;
  medianSeconds: number;
  runs: PushRun[];
}

/** The process with the agents, and what it said last of each state. */
class PushAgents {
  readonly #child;
  readonly #said = new Map<PushReport['state'], PushReport>();

  constructor(program: string) {
    this.#child = fork(program, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
    this.#child.on('message', (report: PushReport) => this.#said.set(report.state, report));
    this.#child.on('exit', (code) =>
      this.#said.set('failed', { state: 'failed', words: `it ended with code ${code}` }),
    );
  }

  order(order: PushOrder): void {
    this.#child.send(order);
  }

  /** Waits for a report. @throws ShoalError when the agents fail or the time is over */
  async until<S extends PushReport['state']>(
    state: S,
    done: (report: Extract<PushReport, { state: S }>) => boolean,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<Extract<PushReport, { state: S }>> {
    const endMs = systemClock.monotonic() + timeoutMs;
    this.#said.delete(state);
    for (;;) {
      const failed = this.#said.get('failed');
      if (failed?.state === 'failed') throw new ShoalError('Internal', `the agents failed: ${failed.words}`);
      const report = this.#said.get(state) as Extract<PushReport, { state: S }> | undefined;
      if (report !== undefined && done(report)) return report;
      if (systemClock.monotonic() > endMs) {
        throw new ShoalError('DeadlineExceeded', `not within ${timeoutMs} ms: ${state}: ${JSON.stringify(report)}`);
      }
      await systemClock.sleep(POLL_MS, signal);
    }
  }

  stop(): void {
    if (this.#child.connected) this.#child.send({ order: 'stop' } satisfies PushOrder);
    this.#child.kill('SIGTERM');
  }
}

/** Changes of endpoints as they come: tasks that report RUNNING to real managers, whose tables go to all agents. */
export async function pushPart(options: { runs: number; signal: AbortSignal }): Promise<PushResult> {
  const { signal } = options;
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const lab = new Lab(`bench-push-${process.pid}`);
  let agents: PushAgents | undefined;
  try {
    const program = await buildAgentHost(ROOT, scratch, join(HERE, 'push-host.ts'));
    const hosts = await lab.up({ managers: MANAGERS, workers: 0, subnet: '', swarm: true, daemonFlags: [] });
    agents = new PushAgents(program);
    const leader = await connect(agents, hosts, signal);
    const runs: PushRun[] = [];
    for (let run = 0; run < Math.min(options.runs, RUNS_MAX); run++) {
      runs.push(await burst(agents, leader.docker_host, signal));
    }
    const medianSeconds = median(runs.map((run) => run.seconds));
    return { agents: AGENTS, endpoints: ENDPOINTS, medianSeconds, runs };
  } finally {
    agents?.stop();
    await lab.down();
    const left = leftovers(lab.names);
    if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
    rmSync(scratch, { recursive: true, force: true });
  }
}

async function connect(agents: PushAgents, hosts: readonly HostFacts[], signal: AbortSignal): Promise<HostFacts> {
  await drainManagers(must(hosts[0], 'first manager'), hosts, signal);
  const leader = await findLeader(hosts);
  const host = leader.docker_host;
  interface Swarm {
    JoinTokens: { Worker: string };
    TLSInfo: { TrustRoot: string };
  }
  const { JoinTokens, TLSInfo } = await httpJson<Swarm>({ host, method: 'GET', path: '/swarm' });
  const ca = { token: JoinTokens.Worker, rootCa: TLSInfo.TrustRoot };
  agents.order({ order: 'connect', manager: `${leader.address}:${PORT}`, ...ca, agents: AGENTS });
  await agents.until('connected', () => true, CONNECT_TIMEOUT_MS, signal);
  const body = { Name: NETWORK_NAME, Driver: 'overlay', IPAM: { Config: [{ Subnet: '10.77.0.0/16' }] } };
  await httpJson({ host, method: 'POST', path: '/networks/create', body });
  return leader;
}

/** One service whose tasks all become RUNNING at the same moment. */
async function burst(agents: PushAgents, host: string, signal: AbortSignal): Promise<PushRun> {
  const body = {
    Name: 'push',
    TaskTemplate: {
      ContainerSpec: { Image: NO_IMAGE, Command: ['/bin/sleep', '1000000'] },
      Networks: [{ Target: NETWORK_NAME }],
    },
    Mode: { Replicated: { Replicas: ENDPOINTS } },
  };
  const { ID } = await httpJson<{ ID: string }>({ host, method: 'POST', path: '/services/create', body });
  const holding = (count: number): Promise<unknown> =>
    agents.until('holding', ({ tasks, settled }) => settled && tasks === count, RUN_TIMEOUT_MS, signal);
  await holding(ENDPOINTS);
  await systemClock.sleep(SETTLE_MS, signal);
  agents.order({ order: 'run', endpoints: ENDPOINTS });
  const { run } = await agents.until('pushed', () => true, RUN_TIMEOUT_MS, signal);
  await httpJson({ host, method: 'DELETE', path: `/services/${ID}` });
  await holding(0);
  return run;
}
