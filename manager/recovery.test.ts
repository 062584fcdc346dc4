import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { must, silentLogger, systemClock, systemRandom } from '../base/index.ts';
import {
  CreateServiceRequest,
  ListNodesRequest,
  NodeRole,
  NodeSpec_Availability,
  ServiceSpec,
} from '../proto/index.ts';
import { readRestoreImage } from './backup/index.ts';
import { clusterOf } from './ca/index.ts';
import type { Manager } from './manager.ts';
import { TestCluster, until } from './testing.ts';

let cluster: TestCluster;
beforeEach(() => {
  cluster = new TestCluster(silentLogger);
});
afterEach(() => cluster.close());

async function createService(manager: Manager, name: string): Promise<void> {
  const spec = ServiceSpec.create({
    annotations: { name },
    task: { container: { image: 'busybox' } },
    replicated: { replicas: 2 },
  });
  await manager.call('CreateService', CreateServiceRequest.create({ spec }));
}

const services = (manager: Manager): string[] =>
  manager.store
    .view()
    .list('service')
    .map((service) => service.spec?.annotations?.name ?? '')
    .sort();

async function bytesOf(manager: Manager, passphrase?: string, stale = false): Promise<Uint8Array[]> {
  const parts: Uint8Array[] = [];
  for await (const part of await manager.recovery.backup({ passphrase, stale, version: '0.1.0' })) parts.push(part);
  return parts;
}

async function* stream(parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* parts;
}

const how = () => ({
  nowMs: systemClock.now(),
  random: systemRandom,
  availability: NodeSpec_Availability.ACTIVE,
  awaitMs: 0,
});

it('without a quorum calls are refused at once and reads of what was known are served', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second } = await cluster.join(first.advertiseAddr);
  const { manager: third } = await cluster.join(first.advertiseAddr);
  await createService(first, 'web');
  await until('all have it', () => services(second).length === 1);
  await cluster.stop(third);
  await cluster.stop(first);
  await until('the loss is known', () => second.recovery.quorumLoss() !== undefined, 5_000);
  const began = systemClock.monotonic();
  await expect(second.call('ListNodes', ListNodesRequest.create())).rejects.toMatchObject({
    code: 'Unavailable',
    message: expect.stringMatching(
      /^The swarm does not have a leader\.[^]*reaches 1 of 3 managers[^]*connection refused[^]*--force-new-cluster/,
    ) as string,
  });
  // Not after the wait for a leader, which is 3 s.
  expect(systemClock.monotonic() - began).toBeLessThan(1_000);
  await expect(bytesOf(second)).rejects.toThrow('reaches 1 of 3 managers');
  const { nodes } = await second.recovery.callStale('ListNodes', ListNodesRequest.create());
  expect(nodes.map((node) => node.manager_status?.reachability ?? 0).sort((a, b) => a - b)).toEqual([1, 1, 2]);
  await expect(second.recovery.callStale('RemoveNode', {} as never)).rejects.toThrow('only what reads');
});

it('a forced new cluster tells what it has, who led, and who is left behind', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second, identity } = await cluster.join(first.advertiseAddr);
  await createService(first, 'web');
  await until('both have it', () => services(second).length === 1);
  const lastIndex = (second.store as unknown as { currentIndex: number }).currentIndex;
  const led = first.nodeId;
  await cluster.stop(first);
  await until('it misses its leader', () => second.recovery.quorumLoss() !== undefined || second.isLeader(), 10_000);
  const handedOver = second.isLeader() || second.status().leader !== undefined;
  await cluster.stop(second);
  const again = await cluster.start(identity, { kind: 'force-new-cluster' });
  const { report, lines } = must(again.recovery.report(), 'report');
  expect(report).toMatchObject({ kind: 'force-new-cluster', nodeId: identity.nodeId, leftBehind: [{ nodeId: led }] });
  expect(report.index).toBeGreaterThanOrEqual(lastIndex);
  expect(report.term).toBeGreaterThan(0);
  if (!handedOver) expect(must(report.lastLeader, 'last leader').heardMs).toBeLessThan(report.atMs);
  expect(lines.join('\n')).toMatch(/Raft index \d+, term \d+; newest change [^]*may be missing[^]*left behind/);
  expect(services(again)).toEqual(['web']);
});

it('a backup taken on any manager is restored as a new cluster with the same root, tokens and objects', async () => {
  const { manager: first } = await cluster.bootstrap();
  const { manager: second } = await cluster.join(first.advertiseAddr);
  await createService(first, 'web');
  const follower = first.isLeader() ? second : first;
  const parts = await bytesOf(follower, 'a long passphrase');
  await createService(first, 'later');
  const before = must(clusterOf(first.store.view()), 'cluster');
  const oldNodes = first.store
    .view()
    .list('node')
    .map((node) => node.id);

  const image = await readRestoreImage(stream(parts), 'a long passphrase', how());
  expect(image.identity.clusterId).toBe(before.id);
  const restored = await cluster.start(image.identity, { kind: 'restore', image });
  expect(services(restored)).toEqual(['web']);
  const after = must(clusterOf(restored.store.view()), 'cluster');
  expect(after.root_ca?.join_tokens).toEqual(before.root_ca?.join_tokens);
  expect(Buffer.compare(after.root_ca?.ca_cert ?? Buffer.alloc(0), before.root_ca?.ca_cert ?? Buffer.alloc(1))).toBe(0);
  expect(restored.status().managers.map((one) => one.nodeId)).toEqual([image.identity.nodeId]);
  for (const id of oldNodes) expect(restored.store.view().get('node', id)?.role).toBe(NodeRole.WORKER);
  expect(restored.recovery.report()?.lines.join('\n')).toMatch(
    /restored at [^]*after the backup was taken[^]*never start them again/,
  );

  await createService(restored, 'new');
  const versions = restored.store
    .view()
    .list('service')
    .map((service) => service.meta?.version?.index ?? 0);
  expect(Math.max(...versions)).toBeGreaterThan(1_000_000);
  await cluster.stop(restored);
  const again = await cluster.start(image.identity, { kind: 'restart' }, undefined, restored.advertiseAddr);
  await until('it leads again', () => again.isLeader());
  expect(services(again)).toEqual(['new', 'web']);
  const joined = await cluster.certificate(again.advertiseAddr, before.root_ca?.join_tokens?.manager ?? '');
  const member = await cluster.start(joined, { kind: 'join', remoteAddr: again.advertiseAddr });
  expect(services(member)).toEqual(['new', 'web']);
  expect(readFileSync(join(cluster.dirOf(image.identity.nodeId), 'raft', 'recovery.json'), 'utf8')).toContain(
    'restore',
  );
});
