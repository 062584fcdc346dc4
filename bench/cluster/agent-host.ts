/** A process that holds many simulated agents; its parent (run.ts) gives it orders and reads its reports. */
import { Client } from '@grpc/grpc-js';
import { errorMessage, must, retry, systemClock, systemRandom } from '../../base/index.ts';
import { anonymousCredentials, CA_SERVER_NAME, channelOptions } from '../../identity/index.ts';
import { SimulatedAgent } from './agent.ts';
import { joinAsNode } from './join.ts';
import type { HostOrder, HostReport } from './protocol.ts';

const REPORT_INTERVAL_MS = 100;
const RECONNECT = { attempts: 20, baseMs: 100, capMs: 8000, clock: systemClock, random: systemRandom };

type JoinOrder = Extract<HostOrder, { order: 'join' }>;

const totals: HostReport = {
  ...{ joined: 0, connected: 0, sessionsLost: 0, assigned: 0, running: 0, reports: 0, messages: 0 },
  ...{ heartbeats: 0, heartbeatMaxMs: 0, heartbeatsSlow: 0, errors: [] },
};
const agents: SimulatedAgent[] = [];
let atOnce = 1;

/** Runs `work` for 0 to count−1, a bounded number at a time. */
async function each(count: number, work: (i: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: atOnce }, worker));
}

async function joinAll(order: JoinOrder): Promise<void> {
  atOnce = order.atOnce;
  const client = new Client(order.manager, anonymousCredentials(order.rootCa), channelOptions(CA_SERVER_NAME));
  try {
    await each(order.agents, async (i) => {
      const number = order.first + i;
      agents[i] = new SimulatedAgent(await joinAsNode(client, order), number, order.startMs, totals);
      totals.joined++;
    });
  } finally {
    client.close();
  }
}

async function connectAll(managers: readonly string[]): Promise<void> {
  await each(agents.length, async (i) => {
    // A manager closes connections beyond what it can hold; an agent comes back a little later.
    await retry(async () => agents[i]?.connect(must(managers[i % managers.length], 'manager')), RECONNECT);
  });
}

function tell(): void {
  process.send?.(totals);
}

function fail(error: unknown): void {
  totals.errors.push(errorMessage(error));
  tell();
}

process.on('message', (order: HostOrder) => {
  switch (order.order) {
    case 'join':
      joinAll(order).catch(fail);
      break;
    case 'connect':
      connectAll(order.managers).catch(fail);
      break;
    case 'stop':
      for (const agent of agents) agent.stop();
      process.exit(0);
  }
});
process.on('disconnect', () => process.exit(0));
setInterval(tell, REPORT_INTERVAL_MS);
