import { readdirSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { silentLogger, Watch } from '../base/index.ts';
import { Cluster, Node, RaftConfig, UpdateClusterRequest, type ClusterSpec } from '../proto/index.ts';
import type { RaftTicks } from '../raft/index.ts';
import { clusterOf, completeClusterSpec } from './ca/index.ts';
import { checkRaftConfig, RaftSettingsFollower, raftSettings } from './raft-settings.ts';
import type { Commit, ReadView } from './store/types.ts';
import { TestCluster, until } from './testing.ts';

const DEFAULTS = { tickMs: 50, electionTicks: 10, heartbeatTicks: 2, snapshotEntries: 10_000, keepEntries: 500 };

describe('settings of consensus', () => {
  it('have defaults, which new clusters show', () => {
    expect(raftSettings(null)).toMatchObject(DEFAULTS);
    const { raft } = completeClusterSpec(undefined);
    expect(raft).toMatchObject({ tick_ms: 50, election_tick: 10, heartbeat_tick: 2, snapshot_interval: 10_000 });
    expect(raftSettings(raft)).toMatchObject(DEFAULTS);
  });

  it.each([
    [{ tick_ms: 5 }, /the raft tick in milliseconds must be between 10 and 1000, not 5/],
    [{ tick_ms: 5_000 }, /raft tick/],
    [{ election_tick: 3, heartbeat_tick: 2 }, /election tick \(3\) must be at least 2 times the heartbeat tick \(2\)/],
    [{ tick_ms: 10, election_tick: 4 }, /election time in milliseconds \(4 ticks of 10 ms\) must be between 100/],
    [{ tick_ms: 1_000, election_tick: 100 }, /election time/],
    [{ log_entries_for_slow_followers: 2_000_000 }, /log entries for slow followers/],
    [{ keep_old_snapshots: 5_000 }, /old snapshots/],
  ])('have bounds: %j', (fields, words) => {
    expect(() => checkRaftConfig(RaftConfig.create(fields))).toThrow(words);
    expect(() => completeClusterSpec({ raft: fields })).toThrow(words);
  });

  it('are brought to the driver when they change; what tests set stays', async () => {
    const calls: unknown[] = [];
    let leaseTicks: number | undefined;
    const node = {
      setTicks: ({ tickMs, electionTicks, heartbeatTicks, leaseTicks: lease }: RaftTicks) => {
        leaseTicks = lease;
        calls.push([tickMs, electionTicks, heartbeatTicks]);
      },
      setSnapshots: (...given: number[]) => {
        calls.push(given);
      },
    };
    let cluster = Cluster.create({ id: 'c', spec: completeClusterSpec(undefined) });
    const commits = new Watch<Commit>();
    const view = (): ReadView =>
      ({ list: (kind: string) => (kind === 'cluster' ? [cluster] : []) }) as unknown as ReadView;
    const store = { view, watch: () => commits.subscribe() };
    const follower = new RaftSettingsFollower(node, store, { keepEntries: 7 }, silentLogger);
    expect(calls.splice(0)).toEqual([
      [50, 10, 2],
      [10_000, 7, 0],
    ]);
    const update = async (raft: Partial<RaftConfig>): Promise<void> => {
      cluster = Cluster.create({ id: 'c', spec: completeClusterSpec({ raft }) });
      commits.publish({ index: 1, reset: false, changes: [{ kind: 'cluster', action: 'update', object: cluster }] });
      await new Promise((resolve) => setImmediate(resolve));
    };
    await update({});
    expect(calls.splice(0)).toEqual([]);
    await update({ tick_ms: 100, snapshot_interval: 5, keep_old_snapshots: 3 });
    expect(calls.splice(0)).toEqual([
      [100, 10, 2],
      [5, 7, 3],
    ]);
    expect(follower.electionMs).toBe(1_000);
    // With many nodes managers are more patient with a leader; its lease counts on no more than before.
    const object = Node.create({ id: 'n' });
    const nodes = async (action: 'create' | 'remove', count: number): Promise<void> => {
      commits.publish({
        index: 2,
        reset: false,
        changes: Array.from({ length: count }, () => ({ kind: 'node', action, object })),
      });
      await new Promise((resolve) => setImmediate(resolve));
    };
    await nodes('create', 1_250);
    expect(calls.splice(0)).toEqual([]);
    await nodes('create', 3_750);
    expect(calls.splice(0)).toEqual([
      [100, 40, 2],
      [5, 7, 3],
    ]);
    expect(leaseTicks).toBe(10);
    await nodes('remove', 4_000);
    expect(calls.splice(0)[0]).toEqual([100, 10, 2]);
    await follower.stop();
    await update({ tick_ms: 200 });
    expect(calls).toEqual([]);
  });
});

describe('an update of a cluster', () => {
  const cluster = new TestCluster();
  afterEach(() => cluster.close());

  it('refuses settings that are out of bounds, and the others take effect', async () => {
    const { manager } = await cluster.bootstrap();
    const update = async (raft: Partial<RaftConfig>): Promise<void> => {
      const stored = clusterOf(manager.store.view()) as Cluster;
      const spec = { ...(stored.spec as ClusterSpec) };
      spec.raft = { ...(spec.raft as RaftConfig), ...raft };
      const request = { cluster_id: stored.id, cluster_version: stored.meta?.version ?? null, spec };
      await manager.call('UpdateCluster', UpdateClusterRequest.create(request));
    };
    await expect(update({ election_tick: 2, heartbeat_tick: 2 })).rejects.toMatchObject({ code: 'InvalidArgument' });
    await update({ keep_old_snapshots: 2, snapshot_interval: 3, log_entries_for_slow_followers: 1, election_tick: 0 });
    expect(clusterOf(manager.store.view())?.spec?.raft).toMatchObject({ snapshot_interval: 3, election_tick: 10 });
    // Snapshots come every three entries from now on.
    const before = manager.status().raft?.applied ?? 0;
    for (let i = 0; i < 6; i++) await update({ snapshot_interval: 3 + (i % 2) });
    await until('applied', () => (manager.status().raft?.applied ?? 0) >= before + 6);
    const snapshots = (): number => readdirSync(`${cluster.dirOf(manager.nodeId)}/raft/snap`).length;
    await until('snapshots', () => snapshots() === 2);
    for (let i = 0; i < 12; i++) await update({ snapshot_interval: 3 + (i % 2) });
    await until('the newest and two old ones', () => snapshots() === 3);
  });
});
