import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import {
  CheckNetworksRequest,
  Network,
  NetworkCheckReport,
  NetworkCheckResult,
  NetworkFault,
  NodeStatus_State,
  PortConfig_Protocol,
  TaskState,
  type CheckNetworksResponse,
  type NetworkCheckOrder,
} from '../../proto/index.ts';
import { aNode, aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { CHECKS_MAX, LISTEN_GRACE_MS, NetworkChecker, REPORT_TIMEOUT_MS } from './index.ts';

let store: MemoryStore;
let clock: VirtualClock;
let checker: NetworkChecker;
let summoned: string[];

const network = (id: string): Network =>
  Network.create({ id, meta: { version: { index: 0 } }, spec: { annotations: { name: `${id}-name` } } });

async function put(id: string, node: string, networks: Network[], state: TaskState = TaskState.RUNNING): Promise<void> {
  const task = aTask(id, {
    node_id: node,
    service_id: 'web',
    slot: Number(id.slice(1)),
    service_annotations: { name: 'web' },
    status: { state },
    desired_state: TaskState.RUNNING,
    networks: networks.map((one) => ({ network: one, addresses: ['10.0.1.5/24'], aliases: [] })),
  });
  await store.update((tx) => tx.create('task', task));
}

/** An agent that listens; what it is told, and how it answers. */
function agent(nodeId: string, answer?: (order: NetworkCheckOrder) => Partial<NetworkCheckReport>) {
  const told: NetworkCheckOrder[] = [];
  const controller = new AbortController();
  const call = { nodeId, address: '', signal: controller.signal };
  const send = async (order: NetworkCheckOrder): Promise<void> => {
    told.push(order);
    if (answer === undefined) return;
    const request = NetworkCheckReport.create({ id: order.id, ...answer(order) });
    await Promise.resolve();
    checker.report({ ...call, request });
  };
  checker.listen({ ...call, request: {}, send }).catch(() => undefined);
  return { told, gone: () => controller.abort() };
}

const results = (order: NetworkCheckOrder): Partial<NetworkCheckReport> => ({
  results: order.network_ids.map((id) => NetworkCheckResult.create({ network_id: id, tasks: 1 })),
});

const ask = (facts: Partial<CheckNetworksRequest> = {}): Promise<CheckNetworksResponse> =>
  checker.check(CheckNetworksRequest.create(facts));

beforeEach(async () => {
  clock = new VirtualClock();
  store = createMemoryStore();
  summoned = [];
  const summon = (nodeId: string): void => void summoned.push(nodeId);
  checker = new NetworkChecker({ store, clock, random: new SeededRandom(1), log: silentLogger, summon });
  const a = network('neta');
  const b = network('netb');
  await store.update((tx) => {
    for (const one of [a, b]) tx.create('network', one);
    for (const id of ['n1', 'n2', 'n3']) {
      tx.create(
        'node',
        aNode(id, { description: { hostname: `host-${id}` }, status: { state: NodeStatus_State.READY } }),
      );
    }
    tx.create('service', aService('web', { spec: { annotations: { name: 'web' } } }));
  });
  await put('t1', 'n1', [a]);
  await put('t2', 'n2', [a, b]);
  await put('t3', 'n3', [b], TaskState.FAILED);
});

describe('questions about networks', () => {
  it('go to the hosts with running tasks on them, and no other', async () => {
    const one = agent('n1', results);
    const two = agent('n2', results);
    const three = agent('n3', results);
    const answer = await ask();
    expect(one.told.map((order) => order.network_ids)).toEqual([['neta']]);
    expect(two.told.map((order) => order.network_ids)).toEqual([['neta', 'netb']]);
    expect(three.told).toEqual([]);
    expect(answer.networks.map(({ name, nodes }) => [name, nodes.map((node) => node.node_id)])).toEqual([
      ['neta-name', ['n1', 'n2']],
      ['netb-name', ['n2']],
    ]);
    expect(answer.networks.every(({ nodes }) => nodes.every((node) => node.result !== null && node.error === ''))).toBe(
      true,
    );
    expect(answer.hostnames).toMatchObject({ n1: 'host-n1' });
  });

  it('may name one network, by name or by the beginning of its id', async () => {
    agent('n2', results);
    for (const name of ['netb', 'netb-name']) {
      expect((await ask({ network: name })).networks).toMatchObject([
        { network_id: 'netb', nodes: [{ node_id: 'n2' }] },
      ]);
    }
    await expect(ask({ network: 'netc' })).rejects.toMatchObject({ code: 'NotFound' });
  });

  it('tell which hosts said nothing, and why', async () => {
    agent('n1');
    const asked = ask({ network: 'neta' });
    await clock.advanceAsync(LISTEN_GRACE_MS);
    await clock.advanceAsync(REPORT_TIMEOUT_MS);
    const [verdict] = (await asked).networks;
    expect(verdict?.nodes.map((node) => [node.node_id, node.result, node.error])).toEqual([
      ['n1', null, 'it did not answer within 25 s'],
      ['n2', null, 'its agent takes no network checks'],
    ]);
  });

  it('summon agents that do not listen, each time anew, and only while there is something for them', async () => {
    expect(checker.waitingFor('n2')).toBe(0);
    agent('n1', results);
    const asked = ask({ network: 'neta' });
    expect(summoned).toEqual(['n2']);
    const first = checker.waitingFor('n2');
    expect([first > 0, checker.waitingFor('n1')]).toEqual([true, 0]);
    const two = agent('n2', results);
    expect((await asked).networks[0]?.nodes.map((node) => node.error)).toEqual(['', '']);
    expect(checker.waitingFor('n2')).toBe(0);
    two.gone();
    await Promise.resolve();
    const again = ask({ network: 'neta' });
    expect(checker.waitingFor('n2')).toBeGreaterThan(first);
    agent('n2', results);
    await again;
  });

  it('do not wait for a host that is down, or whose connection breaks', async () => {
    const two = agent('n2');
    await store.seed({ node: [aNode('n1', { status: { state: NodeStatus_State.DOWN } })] });
    const asked = ask({ network: 'neta' });
    await clock.advanceAsync(0);
    two.gone();
    expect((await asked).networks[0]?.nodes.map((node) => node.error)).toEqual([
      'the host is down',
      'its connection to the manager broke',
    ]);
  });

  it('reach an agent that comes right after an election', async () => {
    const asked = ask({ network: 'netb' });
    await clock.advanceAsync(LISTEN_GRACE_MS - 1);
    agent('n2', results);
    await clock.advanceAsync(0);
    expect((await asked).networks[0]?.nodes[0]).toMatchObject({ error: '', result: { tasks: 1 } });
  });

  it('are bounded in number', async () => {
    const open = Array.from({ length: CHECKS_MAX }, () => ask());
    await expect(ask()).rejects.toMatchObject({ code: 'ResourceExhausted' });
    await clock.advanceAsync(REPORT_TIMEOUT_MS);
    await Promise.all(open);
    agent('n2', results);
    await expect(ask({ network: 'netb' })).resolves.toBeDefined();
  });
});

describe('reports', () => {
  it('are taken from the host that was asked only', async () => {
    const two = agent('n2');
    const asked = ask({ network: 'netb' });
    await clock.advanceAsync(0);
    const [order] = two.told;
    const request = NetworkCheckReport.create({ id: order?.id ?? '', error: 'nonsense' });
    const call = { address: '', signal: new AbortController().signal };
    expect(() => checker.report({ ...call, nodeId: 'n3', request })).toThrow('nobody waits');
    expect(() => checker.report({ ...call, nodeId: 'n2', request: { ...request, id: 'other' } })).toThrow(
      'nobody waits',
    );
    checker.report({
      ...call,
      nodeId: 'n2',
      request: { ...request, ...results(order as NetworkCheckOrder), error: '' },
    });
    expect((await asked).networks[0]?.nodes[0]?.error).toBe('');
  });

  it('are cut to what an honest agent sends', async () => {
    const faults = Array.from({ length: 100 }, () => NetworkFault.create({ words: 'x'.repeat(10_000) }));
    agent('n2', () => ({ results: [NetworkCheckResult.create({ network_id: 'netb', faults })] }));
    const result = (await ask({ network: 'netb' })).networks[0]?.nodes[0]?.result;
    expect(result?.faults).toHaveLength(64);
    expect(result?.faults_left_out).toBe(36);
    expect(result?.faults.every((fault) => fault.words.length === 400)).toBe(true);
  });
});

describe('traces', () => {
  const facts = { trace_from: 't1', trace_to: 't2', trace_port: 80, trace_protocol: PortConfig_Protocol.TCP };
  const step = (order: NetworkCheckOrder): Partial<NetworkCheckReport> => ({
    trace: [
      { name: order.trace?.target_side === true ? 'listening' : 'connection', right: true, words: '', node_id: '' },
    ],
  });

  it('ask the host of the source, then those of the targets', async () => {
    const one = agent('n1', step);
    const two = agent('n2', step);
    const answer = await ask(facts);
    expect(one.told[0]?.trace).toMatchObject({ network_id: 'neta', from_task_id: 't1', name: 'web.2.t2', port: 80 });
    expect(two.told[0]?.trace).toMatchObject({ to_task_ids: ['t2'], target_side: true });
    expect(answer.trace.map(({ name, node_id: node }) => [name, node])).toEqual([
      ['connection', 'n1'],
      ['listening', 'n2'],
    ]);
  });

  it('lead to all running tasks of a service, looked up by its name', async () => {
    const one = agent('n1', step);
    agent('n2', step);
    await ask({ ...facts, trace_to: 'web' });
    expect(one.told[0]?.trace).toMatchObject({ name: 'web', to_task_ids: ['t1', 't2'] });
  });

  it.each([
    [{ trace_from: 't9' }, 'no task has the id or name t9'],
    [{ trace_from: 't3' }, 'does not run'],
    [{ trace_to: 'host-n2' }, 'is a node'],
    [{ trace_port: 0 }, 'invalid port 0'],
    [{ trace_port: 70_000 }, 'invalid port 70000'],
  ])('are refused when %j', async (change, words) => {
    await expect(ask({ ...facts, ...change })).rejects.toThrow(words);
  });

  it('need a network that both sides are on', async () => {
    await put('t4', 'n1', [network('netb')]);
    await expect(ask({ ...facts, trace_to: 't4' })).rejects.toThrow('share no overlay network');
  });
});
