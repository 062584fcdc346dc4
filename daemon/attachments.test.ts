import { beforeEach, expect, it, vi } from 'vitest';
import { notFound, silentLogger, systemClock, unavailable, ShoalError } from '../base/index.ts';
import type { Container } from '../engine/index.ts';
import { Task, type AttachNetworkRequest } from '../proto/index.ts';
import type { TaskController } from '../worker/index.ts';
import { Attachments, type Membership } from './attachments.ts';

let containers: Partial<Container>[];
let calls: string[];
let membership: Membership | undefined;
let attachments: Attachments;
let controllers: Map<string, TaskController>;
let answer: (request: AttachNetworkRequest) => Promise<string>;
const never = new AbortController().signal;
const PATIENCE = { timeout: 10_000 };

function task(id: string, container: string): Task {
  const network = { id: 'net1', spec: { annotations: { name: 'open' } } };
  const networks = [{ network, addresses: ['10.1.0.5/24', 'fd00::5/64'] }];
  return Task.create({ id, spec: { attachment: { container_id: container } }, networks });
}

/** The managers assign a place; the agent's runner takes it as far as it goes. */
async function assign(id: string, container: string): Promise<TaskController> {
  const controller = attachments.controller(task(id, container));
  controllers.set(id, controller);
  if ((await controller.observe()).state === 'absent') await controller.prepare(never);
  await controller.start(never);
  return controller;
}

const request = { network: 'open', containerId: 'c1', names: ['box'], addresses: [] };
const running = (id: string): Partial<Container> => ({
  id,
  state: 'running',
  pid: 7,
  endpoints: [{ networkId: 'net1', networkName: 'open', address: '10.1.0.5/24' }] as unknown as Container['endpoints'],
  config: { network: { mode: 'sandbox', endpoints: [{ networkId: 'open', address: '' }] } } as never,
});

beforeEach(() => {
  [containers, calls, controllers] = [[], [], new Map()];
  answer = async () => 'p1';
  const agent = {
    attachNetwork: async (asked: AttachNetworkRequest) => await answer(asked),
    detachNetwork: async (id: string) => void calls.push(`detach ${id}`),
  };
  membership = { state: 'active', agent };
  attachments = new Attachments({
    networks: { waitForNetwork: async () => undefined },
    clock: systemClock,
    log: silentLogger,
    membership: () => membership,
    containers: () => ({
      inspect: (id) => {
        const found = containers.find((one) => one.id === id);
        if (found === undefined) throw notFound(`No such container: ${id}`);
        return found as Container;
      },
      connect: async (id, { networkId }) => void calls.push(`connect ${id} ${networkId}`),
      disconnect: async (id, networkId) => void calls.push(`disconnect ${id} ${networkId}`),
    }),
  });
});

it('a place is there when it was assigned and its network stands, in whichever order that is told', async () => {
  const place = attachments.attach(request);
  await assign('p1', 'c1');
  expect(await place).toEqual({ networkId: 'net1', address: '10.1.0.5/24', address6: 'fd00::5/64' });
  answer = async () => {
    await assign('p2', 'c2');
    return 'p2';
  };
  await attachments.attach({ ...request, containerId: 'c2' });
  expect(calls).toEqual([]);
  attachments.detach('c1');
  await vi.waitFor(() => expect(calls).toEqual(['detach p1']), PATIENCE);
});

it('before the swarm is ready it waits; a refusal is told in Docker’s words', async () => {
  const ready = membership;
  membership = undefined;
  let tries = 0;
  answer = async () => {
    if (++tries < 2) throw unavailable('no leader');
    throw new ShoalError('PermissionDenied', 'network open not manually attachable');
  };
  const place = attachments.attach(request);
  membership = ready;
  await expect(place).rejects.toMatchObject({
    code: 'PermissionDenied',
    message:
      'Could not attach to network open: rpc error: code = PermissionDenied desc = network open not manually attachable',
  });
  membership = { state: 'inactive', agent: undefined };
  await expect(attachments.attach(request)).rejects.toThrow('network open not found');
});

it('a container that ends while it is attached leaves no place', async () => {
  const place = attachments.attach(request);
  attachments.detach('c1');
  await assign('p1', 'c1');
  await expect(place).rejects.toThrow('ended while it was attached');
  await vi.waitFor(() => expect(calls).toContain('detach p1'), PATIENCE);
});

it('after a restart places of running containers stay, others are given back as soon as that is possible', async () => {
  containers = [running('c1')];
  const ready = membership;
  membership = undefined;
  const kept = attachments.controller(task('p1', 'c1'));
  attachments.controller(task('p2', 'gone'));
  expect(await kept.observe()).toEqual({ state: 'running' });
  await new Promise((resolve) => setImmediate(resolve));
  expect(calls).toEqual([]);
  membership = ready;
  await vi.waitFor(() => expect(calls).toEqual(['detach p2']), PATIENCE);
});

it('a place that the managers end is asked for anew, while its container runs', async () => {
  const place = attachments.attach(request);
  const controller = await assign('p1', 'c1');
  await place;
  containers = [running('c1')];
  const ended = controller.wait(never);
  await controller.remove();
  expect(await ended).toEqual({ exitCode: 0 });
  await vi.waitFor(() => expect(calls).toEqual(['disconnect c1 net1', 'connect c1 open']), PATIENCE);
});

it('when the node leaves the swarm, its containers leave the networks', async () => {
  containers = [running('c1')];
  attachments.controller(task('p1', 'c1'));
  await attachments.leave();
  expect(calls).toEqual(['disconnect c1 net1']);
});
