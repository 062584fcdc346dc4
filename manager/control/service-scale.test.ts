import { beforeEach, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import { ServiceSpec, UpdateServiceRequest_Rollback, type Partially, type Service } from '../../proto/index.ts';
import { createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';
import type { Control } from './types.ts';

let store: MemoryStore;
let control: Control;

beforeEach(() => {
  const clock = new VirtualClock(1_700_000_000_000);
  store = createMemoryStore({ clock });
  control = createControl({ store, clock, random: new SeededRandom(1), log: silentLogger });
});

const labels = { 'shoal.autoscale.max': '9', 'shoal.autoscale.cpu': '50' };
const spec = (image: string, fields: Partially<ServiceSpec> = {}): ServiceSpec =>
  ServiceSpec.create({
    annotations: { name: 'web', labels },
    task: { container: { image } },
    replicated: { replicas: 2 },
    ...fields,
  });

const change = async (next: ServiceSpec | null, rollback_to = 0): Promise<Service> => {
  const stored = store.view().byName('service', 'web');
  const { service } = await control.UpdateService({
    service_id: stored?.id ?? '',
    service_version: stored?.meta?.version ?? null,
    spec: next,
    rollback: UpdateServiceRequest_Rollback.NONE,
    rollback_to,
  });
  return service as Service;
};

it('refuses a memory target without a memory limit, and names the way out', async () => {
  const annotations = { name: 'web', labels: { 'shoal.autoscale.max': '4', 'shoal.autoscale.memory': '80' } };
  const create = (fields: Partially<ServiceSpec>) =>
    control.CreateService({ spec: spec('one', { annotations, ...fields }) });
  await expect(create({})).rejects.toThrow('set one with --limit-memory');
  await create({ task: { container: { image: 'one' }, resources: { limits: { memory_bytes: 64 << 20 } } } });
});

it('keeps the number of the autoscaler when a revision is put in place again', async () => {
  await control.CreateService({ spec: spec('one') });
  await change(spec('two'));
  const scaled = store.view().byName('service', 'web') as Service;
  await store.update((tx) => {
    const replicated = { replicas: 7 };
    tx.update('service', { ...scaled, spec: { ...(scaled.spec as ServiceSpec), replicated } });
  });
  await expect(change(null, 2)).rejects.toThrow('revision 2 of service web is the one in force');
  const back = await change(null, 1);
  expect(back.spec).toMatchObject({ replicated: { replicas: 7 }, task: { container: { image: 'one' } } });
});

it('tells a number set by hand as such, and nothing of a service that scales no more', async () => {
  await control.CreateService({ spec: spec('one') });
  expect((await change(spec('two'))).autoscale).toBeNull();
  const by = 'set from 2 to 5 replicas by hand';
  const five = { replicated: { replicas: 5 } };
  expect((await change(spec('two', five))).autoscale).toMatchObject({ from_replicas: 2, to_replicas: 5, message: by });
  expect((await change(spec('three', five))).autoscale?.message).toBe(by);
  expect((await change(spec('three', { annotations: { name: 'web' } }))).autoscale).toBeNull();
});

it('takes the number of a revision that does not scale', async () => {
  await control.CreateService({ spec: spec('one', { annotations: { name: 'web' } }) });
  await change(spec('two', { replicated: { replicas: 7 } }));
  expect((await change(null, 1)).spec?.replicated?.replicas).toBe(2);
});
