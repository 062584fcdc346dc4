/** The process that holds the agents of the part `push`; its parent (push.ts) gives it orders. */
import { Client } from '@grpc/grpc-js';
import { errorMessage, systemClock } from '../../base/index.ts';
import { anonymousCredentials, CA_SERVER_NAME, channelOptions } from '../../identity/index.ts';
import { joinAsNode } from '../cluster/join.ts';
import { PushAgent, type AgentRun } from './push-agent.ts';
import type { PushOrder, PushReport } from './push-protocol.ts';

const TELL_MS = 100;
/** A burst is read when nothing has come for so long: longer than managers wait between two tables. */
const QUIET_MS = 1500;
const RUN_TIMEOUT_MS = 30_000;

let agents: PushAgent[] = [];
let connected = false;

const tell = (report: PushReport): void => void process.send?.(report);
const fail = (error: unknown): void => tell({ state: 'failed', words: errorMessage(error) });

async function connectAll(order: Extract<PushOrder, { order: 'connect' }>): Promise<void> {
  const client = new Client(order.manager, anonymousCredentials(order.rootCa), channelOptions(CA_SERVER_NAME));
  try {
    for (let i = 0; i < order.agents; i++) {
      const agent = new PushAgent(await joinAsNode(client, order), i);
      agent.onLost = fail;
      await agent.connect(order.manager);
      agents.push(agent);
    }
  } finally {
    client.close();
  }
  connected = true;
  tell({ state: 'connected' });
}

async function burst(endpoints: number): Promise<void> {
  const beganMs = performance.now();
  const runs: AgentRun[] = agents.map(() => ({ completeAtMs: undefined, tables: 0, deltas: 0, bytes: 0 }));
  for (const agent of agents) agent.run();
  const newestMs = (): number => Math.max(...agents.map((agent) => agent.lastMessageMs), beganMs);
  for (;;) {
    await systemClock.sleep(TELL_MS);
    if (performance.now() - newestMs() < QUIET_MS) continue;
    agents.forEach((agent, i) => agent.readKept(runs[i] as AgentRun, endpoints));
    const missing = runs.filter((run) => run.completeAtMs === undefined).length;
    if (missing === 0) break;
    if (performance.now() - beganMs > RUN_TIMEOUT_MS) {
      throw new Error(`${missing} of ${agents.length} agents did not get the table with ${endpoints} endpoints`);
    }
  }
  for (const agent of agents) agent.endRun();
  const sum = (of: (run: AgentRun) => number): number => runs.reduce((all, run) => all + of(run), 0);
  tell({
    state: 'pushed',
    run: {
      endpoints,
      seconds: (Math.max(...runs.map((run) => run.completeAtMs ?? 0)) - beganMs) / 1000,
      committedSeconds: (Math.max(...agents.map((agent) => agent.lastCommitMs)) - beganMs) / 1000,
      tables: sum((run) => run.tables),
      tablesMost: Math.max(...runs.map((run) => run.tables)),
      deltas: sum((run) => run.deltas),
      bytes: sum((run) => run.bytes),
    },
  });
}

process.on('message', (order: PushOrder) => {
  switch (order.order) {
    case 'connect':
      connectAll(order).catch(fail);
      break;
    case 'run':
      burst(order.endpoints).catch(fail);
      break;
    case 'stop':
      for (const agent of agents) agent.stop();
      agents = [];
      process.exit(0);
  }
});
process.on('disconnect', () => process.exit(0));
setInterval(() => {
  const tasks = agents.reduce((all, agent) => all + agent.held, 0);
  if (connected) tell({ state: 'holding', tasks, settled: agents.every((agent) => agent.settled) });
}, TELL_MS);
