import { fork, type ChildProcess } from 'node:child_process';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { build } from 'esbuild';
import { ShoalError, systemClock } from '../../base/index.ts';
import type { HostOrder, HostReport } from './protocol.ts';

const POLL_MS = 20;
/** Agents have machines of their own; on this one, which they share with the managers, these go first. */
const AGENTS_NICE = 10;

/** Bundles a program of agents into `dir`; returns its path. */
export async function buildAgentHost(
  root: string,
  dir: string,
  entry = join(root, 'bench', 'cluster', 'agent-host.ts'),
): Promise<string> {
  const outfile = join(dir, 'agent-host.mjs');
  await build({
    ...{ absWorkingDir: root, entryPoints: [entry], outfile },
    ...{ bundle: true, platform: 'node', format: 'esm', target: 'node20', logLevel: 'warning' },
    external: ['koffi', 'level', 'classic-level'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
  });
  return outfile;
}

/** The processes that hold the agents. */
export class AgentHosts {
  readonly #children: ChildProcess[] = [];
  readonly #reports: HostReport[] = [];
  #gone: string | undefined;

  constructor(program: string, processes: number) {
    for (let i = 0; i < processes; i++) {
      const child = fork(program, [], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'], serialization: 'advanced' });
      if (child.pid !== undefined) setPriority(child.pid, AGENTS_NICE);
      child.on('message', (report) => {
        this.#reports[i] = report as HostReport;
      });
      child.on('exit', (code) => (this.#gone ??= `a process of agents ended with code ${code}`));
      this.#children.push(child);
    }
  }

  pids(): number[] {
    return this.#children.map((child) => child.pid ?? 0);
  }

  /** Gives each process its share. */
  join(order: Omit<Extract<HostOrder, { order: 'join' }>, 'order' | 'first'>): void {
    const share = Math.ceil(order.agents / this.#children.length);
    let first = 0;
    for (const child of this.#children) {
      const agents = Math.min(share, order.agents - first);
      child.send({ ...order, order: 'join', agents, first } satisfies HostOrder);
      first += agents;
    }
  }

  connect(managers: string[]): void {
    for (const child of this.#children) child.send({ order: 'connect', managers } satisfies HostOrder);
  }

  /** The sum of the latest reports. */
  total(): HostReport {
    const sum = (of: (report: HostReport) => number): number => this.#reports.reduce((all, one) => all + of(one), 0);
    return {
      joined: sum((one) => one.joined),
      connected: sum((one) => one.connected),
      sessionsLost: sum((one) => one.sessionsLost),
      assigned: sum((one) => one.assigned),
      running: sum((one) => one.running),
      reports: sum((one) => one.reports),
      messages: sum((one) => one.messages),
      heartbeats: sum((one) => one.heartbeats),
      heartbeatMaxMs: Math.max(0, ...this.#reports.map((one) => one.heartbeatMaxMs)),
      heartbeatsSlow: sum((one) => one.heartbeatsSlow),
      errors: this.#reports.flatMap((one) => one.errors),
    };
  }

  /** Waits until the reports say so. @throws ShoalError when a process ends or the time is over. */
  async until(
    what: string,
    done: (total: HostReport) => boolean,
    timeoutMs: number,
    signal: AbortSignal,
  ): Promise<void> {
    const endMs = systemClock.monotonic() + timeoutMs;
    for (;;) {
      const total = this.total();
      if (done(total)) return;
      if (this.#gone !== undefined) throw new ShoalError('Internal', this.#gone);
      if (systemClock.monotonic() > endMs) {
        throw new ShoalError('DeadlineExceeded', `not within ${timeoutMs} ms: ${what}: ${JSON.stringify(total)}`);
      }
      await systemClock.sleep(POLL_MS, signal);
    }
  }

  stop(): void {
    this.#gone ??= 'stopped';
    for (const child of this.#children) if (child.connected) child.send({ order: 'stop' } satisfies HostOrder);
    for (const child of this.#children) child.kill('SIGTERM');
  }
}
