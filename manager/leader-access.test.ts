import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Client, credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock, type ShoalError } from '../base/index.ts';
import { ControlService, type ListNodesRequest, type ListNodesResponse } from '../proto/index.ts';
import { LeaderAccess } from './leader-access.ts';
import type { ManagerParts } from './parts.ts';
import { NO_LEADER_MESSAGE } from './store/store.ts';

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
  const quorum = { loss: () => undefined };
  const parts = { leadership, quorum, leaderAddr: () => 'old:2377', clients: { to: () => client } };
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

  it('is refused at once, with what is lost, when it is known that nobody can lead', async () => {
    const lost = { raftId: 2, nodeId: 'n2', addr: 'b:2377', sinceMs: 0, reason: 'connection refused' };
    const parts = {
      leadership: { leading: false },
      quorum: { loss: () => ({ voters: 3, reachable: 1, needed: 2, lost: [lost, { ...lost, nodeId: 'n3' }] }) },
      leaderAddr: () => undefined,
      wordsContext: () => ({ nowMs: 61_000, hostname: (nodeId: string) => `host-of-${nodeId}` }),
    };
    const leaders = new LeaderAccess(parts as unknown as ManagerParts, { clock: systemClock });
    const began = systemClock.monotonic();
    const call = leaders.call(ControlService.ListNodes, request, () => Promise.resolve(answer), true);
    const error = await call.catch((fault: unknown) => fault as ShoalError);
    // Not after the wait for a leader, which is 3 s.
    expect(systemClock.monotonic() - began).toBeLessThan(1_000);
    expect(error).toMatchObject({ code: 'Unavailable' });
    expect((error as ShoalError).message.split('\n')).toEqual([
      NO_LEADER_MESSAGE,
      'This manager reaches 1 of 3 managers, itself included; 2 are needed. Not reached:',
      '  - host-of-n2, node n2 at b:2377 (missed for 1 minute: connection refused)',
      '  - host-of-n3, node n3 at b:2377 (missed for 1 minute: connection refused)',
      expect.stringContaining('Containers go on'),
      expect.stringContaining('bring 1 of them back'),
      expect.stringContaining('docker swarm init --force-new-cluster'),
      expect.stringContaining('--stale'),
    ]);
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
