import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/index.ts';
import { ControlService, type ListNodesRequest, type ListNodesResponse } from '../proto/index.ts';
import { LeaderAccess } from './leader-access.ts';
import type { ManagerParts } from './parts.ts';

/** A leader that takes connections and never says a word, like a host that has just vanished. */
let silent: Server;
let client: Client;
const sockets = new Set<Socket>();

beforeEach(async () => {
  silent = createServer((socket) => sockets.add(socket));
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  client = new Client(`127.0.0.1:${(silent.address() as AddressInfo).port}`, credentials.createInsecure());
});
afterEach(() => {
  client.close();
  for (const socket of sockets) socket.destroy();
  silent.close();
});

const request = {} as ListNodesRequest;
const answer = { nodes: [] } as ListNodesResponse;

function access(): { leaders: LeaderAccess; lead: () => void } {
  const leadership = { leading: false };
  const parts = { leadership, leaderAddr: () => 'old:2377', clients: { to: () => client } };
  return {
    leaders: new LeaderAccess(parts as unknown as ManagerParts, { clock: systemClock }),
    lead: () => (leadership.leading = true),
  };
}

describe('a call on a leader that vanished', () => {
  it('is made again on its successor when it may be', async () => {
    const { leaders, lead } = access();
    const call = leaders.call(ControlService.ListNodes, request, () => Promise.resolve(answer), true);
    await systemClock.sleep(100);
    lead();
    expect(await call).toBe(answer);
  });

  it('ends in words when it may have been carried out', async () => {
    const { leaders, lead } = access();
    const call = leaders.call(ControlService.ListNodes, request, () => Promise.resolve(answer), false);
    const refusal = expect(call).rejects.toThrow(/leader of the swarm changed while it was answering/);
    await systemClock.sleep(100);
    lead();
    await refusal;
  });
});
