import { beforeEach, expect, it } from 'vitest';
import { SeededRandom, silentLogger, systemClock } from '../../base/index.ts';
import { AttachNetworkRequest, Network, TaskState, type Task } from '../../proto/index.ts';
import { createAllocator } from '../allocator/index.ts';
import { createPlacement } from '../placement.ts';
import { aNode, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { NetworkAttachments } from './index.ts';

let store: MemoryStore;
let attachments: NetworkAttachments;
let duties: AbortController;

beforeEach(async () => {
  store = createMemoryStore();
  const deps = { store, clock: systemClock, random: new SeededRandom(1), log: silentLogger };
  attachments = new NetworkAttachments(deps);
  duties = new AbortController();
  const network = (id: string, attachable: boolean, subnet: string): Network =>
    Network.create({
      id,
      spec: { annotations: { name: `${id}-name` }, attachable, ipam: { configs: [{ subnet }] } },
    });
  await store.seed({
    node: [aNode('n1'), aNode('n2', { spec: { availability: 2 } })],
    network: [network('open', true, '10.9.0.0/30'), network('shut', false, '10.9.1.0/24')],
  });
  const signal = duties.signal;
  void createAllocator(deps).run(signal);
  void createPlacement(deps).run(signal);
  return () => duties.abort(new Error('over'));
});

const attach = async (node: string, target: string, container: string, addresses: string[] = []): Promise<string> => {
  const request = AttachNetworkRequest.create({
    config: { target, addresses, aliases: ['box', 'friend'] },
    container_id: container,
  });
  const call = { nodeId: node, address: '', signal: new AbortController().signal, request };
  return (await attachments.attach(call)).attachment_id;
};
const detach = async (node: string, attachment_id: string): Promise<unknown> =>
  attachments.detach({ nodeId: node, address: '', signal: new AbortController().signal, request: { attachment_id } });
const task = (id: string): Task => store.view().get('task', id) as Task;

it('a place is a task of the node with an address and the names of its container', async () => {
  const id = await attach('n1', 'open-name', 'c1');
  const place = task(id);
  expect(place).toMatchObject({ node_id: 'n1', service_id: '', desired_state: TaskState.RUNNING });
  expect(place.annotations?.name).toBe('box');
  expect(place.spec?.attachment?.container_id).toBe('c1');
  expect(place.status?.state).toBe(TaskState.ASSIGNED);
  expect(place.networks[0]?.addresses).toEqual(['10.9.0.2/30']);
  expect(place.networks[0]?.aliases).toEqual(['friend']);
});

it('refuses what is not attachable, not there, or not asked for in order', async () => {
  await expect(attach('n1', 'shut', 'c1')).rejects.toMatchObject({
    code: 'PermissionDenied',
    message: 'network shut-name not manually attachable',
  });
  await expect(attach('n1', 'none', 'c1')).rejects.toMatchObject({
    code: 'NotFound',
    message: 'network none not found',
  });
  await expect(attach('n1', '', 'c1')).rejects.toMatchObject({ code: 'InvalidArgument' });
  expect(store.view().list('task')).toEqual([]);
});

it('a node that takes no tasks (drained) still attaches its own containers', async () => {
  expect(task(await attach('n2', 'open', 'c1')).status?.state).toBe(TaskState.ASSIGNED);
});

it('a full network is told, and leaves no place behind', async () => {
  const first = await attach('n1', 'open', 'c1');
  await expect(attach('n1', 'open', 'c2')).rejects.toThrow('network open-name (10.9.0.0/30) has no free address');
  await expect(attach('n1', 'open', 'c2', ['10.9.7.7'])).rejects.toThrow('address 10.9.7.7 cannot be used');
  expect(
    store
      .view()
      .list('task')
      .map(({ id }) => id),
  ).toEqual([first]);
  await detach('n1', first);
  expect(task(await attach('n1', 'open', 'c2')).networks[0]?.addresses).toEqual(['10.9.0.2/30']);
});

it('a container has one place on a network: a new one follows a lost one, with its address free', async () => {
  const first = await attach('n1', 'open', 'c1');
  const second = await attach('n1', 'open', 'c1', ['10.9.0.2']);
  expect(
    store
      .view()
      .list('task')
      .map(({ id }) => id),
  ).toEqual([second]);
  expect(second).not.toBe(first);
  expect(task(second).networks[0]?.addresses).toEqual(['10.9.0.2/30']);
});

it('only its own node gives a place back, as often as it likes', async () => {
  const id = await attach('n1', 'open', 'c1');
  await expect(detach('n2', id)).rejects.toMatchObject({ code: 'PermissionDenied' });
  await detach('n1', id);
  await detach('n1', id);
  expect(store.view().list('task')).toEqual([]);
});
