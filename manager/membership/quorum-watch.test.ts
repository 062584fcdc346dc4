import { createServer, type AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { silentLogger, VirtualClock } from '../../base/index.ts';
import { probeTcp, QuorumWatch, type LastLeader } from './quorum-watch.ts';

const voters = [1, 2, 3].map((raftId) => ({ raftId, nodeId: `n${raftId}`, addr: `10.0.0.${raftId}:2377` }));

describe('the quorum watch', () => {
  let clock: VirtualClock;
  let watch: QuorumWatch;
  let leaderId = 2;
  let told: ('found' | LastLeader)[] = [];
  const down = new Set<string>();
  let probes = 0;

  beforeEach(() => {
    clock = new VirtualClock();
    leaderId = 2;
    told = [];
    probes = 0;
    down.clear();
    watch = new QuorumWatch({
      clock,
      log: silentLogger,
      voters: () => voters,
      self: () => 1,
      leaderId: () => leaderId,
      onLeader: (leader) => told.push(leader),
      probe: async (addr) => {
        probes++;
        return down.has(addr) ? 'connection refused' : undefined;
      },
    });
    watch.start();
  });
  afterEach(() => watch.stop());

  const lose = async (): Promise<void> => {
    watch.heard(2);
    await clock.advanceAsync(1_000);
    for (const voter of voters.slice(1)) down.add(voter.addr);
    leaderId = 0;
  };

  it('asks nobody while there is a leader', async () => {
    await clock.advanceAsync(10_000);
    expect([probes, watch.loss(), watch.unreachable()]).toEqual([0, undefined, []]);
  });

  it('knows after an election that nobody can lead, who is missing, and who led', async () => {
    await lose();
    await clock.advanceAsync(900);
    expect(watch.loss()).toBeUndefined();
    await clock.advanceAsync(600);
    expect(told).toEqual(['found']);
    await clock.advanceAsync(800);
    const lost = voters.slice(1).map((voter) => ({ ...voter, reason: 'connection refused' }));
    expect(watch.loss()).toMatchObject({ voters: 3, reachable: 1, needed: 2, lost });
    expect(told).toMatchObject(['found', { raftId: 2, nodeId: 'n2' }]);
    expect((told[1] as LastLeader).heardMs).toBeLessThan(clock.now() - 1_500);
  });

  it('takes it back as soon as one manager is there again, or speaks', async () => {
    await lose();
    await clock.advanceAsync(2_000);
    watch.heard(3);
    expect(watch.loss()).toBeUndefined();
    await clock.advanceAsync(3_000);
    expect(watch.loss()).toBeDefined();
    down.delete('10.0.0.3:2377');
    await clock.advanceAsync(500);
    expect(watch.loss()).toBeUndefined();
    expect(watch.unreachable()).toMatchObject([{ nodeId: 'n2' }]);
  });

  it('says nothing when a leader is found', async () => {
    await lose();
    await clock.advanceAsync(2_000);
    leaderId = 1;
    expect(watch.loss()).toBeUndefined();
    await clock.advanceAsync(500);
    expect(told.at(-1)).toBe('found');
  });
});

describe('a probe by TCP', () => {
  it('tells who listens from who does not, in words', async () => {
    const server = createServer((socket) => socket.destroy());
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    const addr = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    expect(await probeTcp(addr, 500)).toBeUndefined();
    await new Promise((resolve) => server.close(resolve));
    expect(await probeTcp(addr, 500)).toMatch(/^connection refused/);
  });
});
