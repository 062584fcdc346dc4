import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, systemClock } from '../../base/index.ts';
import {
  Network,
  NodeSpec_Availability,
  PlanRequest,
  PortConfig_PublishMode,
  Service,
  ServiceSpec,
  TaskState,
  timestampFromMs,
  type PlanResponse,
  type Partially,
  type Task,
} from '../../proto/index.ts';
import type { Planner } from '../control/index.ts';
import { aNode, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createPlanner, PLAN_TASKS_MAX } from './index.ts';

const GIB = 2 ** 30;
let store: MemoryStore;
let plan: Planner;

function spec(name: string, replicas: number, memoryBytes = 0, fields: Partially<ServiceSpec> = {}): ServiceSpec {
  return ServiceSpec.create({
    annotations: { name },
    task: { container: { image: 'nginx' }, resources: { reservations: { memory_bytes: memoryBytes } } },
    replicated: { replicas },
    ...fields,
  });
}

/** A service whose tasks run on these nodes, slot by slot. */
function running(id: string, wanted: ServiceSpec, nodes: readonly string[]): { service: Service; task: Task[] } {
  const service = Service.create({ id, spec: wanted, spec_version: { index: 0 } });
  const task = nodes.map((nodeId, i) =>
    aTask(`${id}-${i + 1}`, {
      service_id: id,
      slot: i + 1,
      node_id: nodeId,
      spec: wanted.task,
      service_annotations: wanted.annotations,
      status: { state: TaskState.RUNNING, timestamp: timestampFromMs(1_700_000_000_000) },
    }),
  );
  return { service, task };
}

beforeEach(async () => {
  store = createMemoryStore();
  plan = createPlanner({ store, clock: systemClock, random: new SeededRandom(5) });
  const web = running('web', spec('web', 4, GIB), ['w1', 'w1', 'w2', 'w2']);
  const ingress = Network.create({
    id: 'ingress',
    spec: { annotations: { name: 'ingress' }, ingress: true, driver_config: { name: 'overlay' } },
    driver_state: { name: 'overlay', options: { 'com.docker.network.driver.overlay.vxlanid_list': '4096' } },
    ipam: { configs: [{ subnet: '10.0.0.0/24', gateway: '10.0.0.1' }] },
  });
  const node = [aNode('w1'), aNode('w2'), aNode('w3')];
  await store.seed({ node, network: [ingress], service: [web.service], task: web.task });
});

/** Makes a plan, and shows that nothing was written by it. */
async function planned(change: Partially<PlanRequest>): Promise<PlanResponse> {
  const entries = store.entries.length;
  const hash = store.stateHash();
  const answer = await plan(PlanRequest.create(change));
  expect([store.entries.length, store.stateHash()]).toEqual([entries, hash]);
  return answer;
}

const counts = (answer: PlanResponse, name: string): Record<string, string> =>
  Object.fromEntries(
    (answer.services.find((one) => one.name === name)?.nodes ?? []).map((n) => [n.hostname, `${n.before}-${n.after}`]),
  );

describe('a plan', () => {
  it('to create a service tells where its tasks would go, its port, and what would be reserved', async () => {
    const ports = [{ target_port: 80, published_port: 8080, publish_mode: PortConfig_PublishMode.INGRESS }];
    const answer = await planned({ create_service: spec('api', 3, 2 * GIB, { endpoint: { ports } }) });
    expect(counts(answer, 'api')).toEqual({ w1: '0-1', w2: '0-1', w3: '0-1' });
    expect(answer.services.map(({ name, started }) => [name, started])).toEqual([['api', 3]]);
    expect(answer.services[0]?.ports).toEqual(['8080:80/tcp']);
    expect(answer.waiting).toEqual([]);
    expect(answer.nodes.map((n) => [n.hostname, n.memory_before / GIB, n.memory_after / GIB])).toEqual([
      ['w1', 2, 4],
      ['w2', 2, 4],
      ['w3', 0, 2],
    ]);
    expect(answer.text).toContain('api  w1: 0 → 1, w2: 0 → 1, w3: 0 → 1; 3 tasks would start\n');
  });

  it('tells what would not fit, and why', async () => {
    const answer = await planned({ create_service: spec('api', 5, 5 * GIB) });
    expect(answer.waiting).toMatchObject([{ service: 'api', count: 2, already: false }]);
    expect(answer.waiting[0]?.reason).toMatch(/^no suitable node \(insufficient resources on 3 nodes\)/);
    expect(answer.text).toContain('2 tasks of api would not fit: no suitable node');
  });

  it('for the loss of a node moves its tasks', async () => {
    const answer = await planned({ node_down: 'w1' });
    expect(counts(answer, 'web')).toEqual({ w1: '2-0', w2: '2-2', w3: '0-2' });
    expect(answer.services[0]).toMatchObject({ moved: 2, started: 0, stopped: 0, replaced: 0 });
    expect(answer.waiting).toEqual([]);
  });

  it('for the loss of a node that is needed says what waits', async () => {
    const big = running('big', spec('big', 3, 6 * GIB), ['w1', 'w2', 'w3']);
    await store.seed({ service: [big.service], task: big.task });
    const answer = await planned({ node_down: 'w3' });
    expect(answer.services[0]).toMatchObject({ name: 'big', stopped: 1 });
    expect(answer.waiting).toMatchObject([{ service: 'big', count: 1, already: false }]);
  });

  it('for a drained node is the same, through the same code as the drain', async () => {
    const answer = await planned({ node_drain: 'w2' });
    expect(counts(answer, 'web')).toEqual({ w1: '2-2', w2: '2-0', w3: '0-2' });
    expect(store.view().get('node', 'w2')?.spec?.availability).toBe(NodeSpec_Availability.ACTIVE);
  });

  it('for an update counts what is replaced, and how long it takes', async () => {
    const next = spec('web', 4, GIB, { update: { delay: { seconds: 10 }, parallelism: 1 } });
    next.task = { ...next.task!, container: { ...next.task!.container!, image: 'nginx:2' } };
    const version = store.view().get('service', 'web')!.meta!.version!;
    const update_service = { service_id: 'web', service_version: version, spec: next };
    const answer = await planned({ update_service });
    const web = answer.services[0]!;
    expect(web.moved + web.replaced).toBe(4);
    expect([web.started, web.stopped, web.update]).toEqual([0, 0, '']);
    expect(answer.duration_ms).toBeGreaterThan(30_000);
    const old = { ...update_service, service_version: { index: version.index - 1 } };
    await expect(plan(PlanRequest.create({ update_service: old }))).rejects.toThrow('out of sequence');
  });

  it('for the removal of a service stops its tasks', async () => {
    const answer = await planned({ remove_service: 'web' });
    expect(answer.services[0]).toMatchObject({ name: 'web', stopped: 4 });
    expect(counts(answer, 'web')).toEqual({ w1: '2-0', w2: '2-0' });
  });

  it('tells nothing of jobs that run by the clock meanwhile', async () => {
    const labels = { 'shoal.cron': '* * * * *' };
    const tidy = Service.create({
      id: 'tidy',
      spec: ServiceSpec.create({
        annotations: { name: 'tidy', labels },
        task: { container: { image: 'nginx' } },
        replicated_job: { total_completions: 1, max_concurrent: 1 },
      }),
      spec_version: { index: 0 },
    });
    await store.seed({ service: [tidy] });
    const answer = await planned({ node_down: 'w1' });
    expect(answer.services.map(({ name }) => name)).toEqual(['web']);
  });

  it('refuses what the cluster would refuse, in its words', async () => {
    await expect(plan(PlanRequest.create({ create_service: spec('web', 1) }))).rejects.toThrow('already exists');
    await expect(plan(PlanRequest.create({ node_down: 'nobody' }))).rejects.toThrow('node nobody not found');
    await expect(plan(PlanRequest.create({}))).rejects.toThrow('a plan needs a change');
  });

  it('says when there are more tasks than it copes with', async () => {
    const many = PlanRequest.create({ create_service: spec('many', PLAN_TASKS_MAX + 1) });
    await expect(plan(many)).rejects.toThrow('a plan looks at 20000 tasks at the most');
  });

  it('waits for the one before it, and for no more than a few', async () => {
    const one = PlanRequest.create({ node_down: 'w1' });
    const results = await Promise.allSettled(Array.from({ length: 8 }, () => plan(one)));
    expect(results.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThanOrEqual(4);
    const refused = results.find((result) => result.status === 'rejected');
    expect(String(refused?.reason)).toContain('another plan is being made');
  });
});
