import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import {
  Service,
  ServiceSpec,
  UpdateServiceRequest_Rollback,
  UpdateStatus_UpdateState,
  type Partially,
} from '../../proto/index.ts';
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

const CRON = { 'shoal.cron': '0 3 * * *', 'shoal.cron.timezone': 'Europe/Berlin' };

async function create(labels: Record<string, string>, fields: Partially<ServiceSpec> = {}): Promise<Service> {
  const mode = { replicated_job: { total_completions: 1 } };
  const spec = ServiceSpec.create({
    annotations: { name: 'tidy', labels },
    task: { container: { image: 'one' } },
    ...mode,
    ...fields,
  });
  return (await control.CreateService({ spec })).service as Service;
}

async function update(service: Service, change: (spec: ServiceSpec) => void, rollback = false): Promise<Service> {
  const spec = ServiceSpec.clone(service.spec as ServiceSpec);
  change(spec);
  const answer = await control.UpdateService({
    service_id: service.id,
    service_version: service.meta?.version ?? null,
    spec,
    rollback: rollback ? UpdateServiceRequest_Rollback.PREVIOUS : UpdateServiceRequest_Rollback.NONE,
    rollback_to: 0,
  });
  return answer.service as Service;
}

const iterationOf = (service: Service): number => service.job_status?.job_iteration?.index ?? -1;

describe('a job that runs by the clock', () => {
  it('is created without a run, and clients need not wait for one', async () => {
    const job = await create(CRON);
    expect(job.job_status).toEqual({ job_iteration: { index: 0 }, last_execution: null });
    expect(job.update_status).toMatchObject({
      state: UpdateStatus_UpdateState.COMPLETED,
      message: 'runs by the clock: 0 3 * * * (Europe/Berlin)',
    });
  });

  it('runs for a change only when that is forced; a rollback is a change', async () => {
    const job = await create(CRON);
    const changed = await update(job, (spec) => (spec.task!.container!.image = 'two'));
    expect(iterationOf(changed)).toBe(0);
    expect(changed.update_status?.state).toBe(UpdateStatus_UpdateState.COMPLETED);
    const forced = await update(changed, (spec) => (spec.task!.force_update = 1));
    expect(iterationOf(forced)).toBe(changed.meta?.version?.index);
    expect(forced).toMatchObject({ update_status: null, cron: { runs: [{ outcome: 'running' }] } });
    const back = await update(forced, () => undefined, true);
    expect(iterationOf(back)).toBe(iterationOf(forced));
  });

  it('refuses a forced change while a run is at work, and changes nothing', async () => {
    const job = await create(CRON);
    const forced = await update(job, (spec) => (spec.task!.force_update = 1));
    await expect(
      update(forced, (spec) => {
        spec.task!.force_update = 2;
        spec.task!.container!.image = 'two';
      }),
    ).rejects.toThrow('job tidy cannot run now');
    expect(store.view().get('service', job.id)).toEqual(forced);
  });

  it('runs at once as a plain job when its schedule is taken away', async () => {
    const job = await create(CRON);
    const plain = await update(job, (spec) => (spec.annotations!.labels = {}));
    expect(iterationOf(plain)).toBe(job.meta?.version?.index);
    expect(plain.update_status).toBeNull();
  });
});

describe('a run by hand', () => {
  it('is a new iteration of a plain job, and a noted run of one by the clock', async () => {
    const job = await create({});
    const ran = (await control.RunService({ service_id: 'tidy' })).service as Service;
    expect(iterationOf(ran)).toBe(job.meta?.version?.index);
    expect(ran.spec).toEqual(job.spec);
    await control.RemoveService({ service_id: 'tidy' });
    await create(CRON);
    const noted = (await control.RunService({ service_id: 'tidy' })).service as Service;
    expect(noted.cron?.runs).toMatchObject([{ job_iteration: iterationOf(noted), outcome: 'running' }]);
    await expect(control.RunService({ service_id: 'tidy' })).rejects.toThrow('is still at work');
  });

  it('is refused for services that are no jobs, and for those that are not there', async () => {
    await create({}, { replicated_job: undefined, replicated: { replicas: 1 } });
    await expect(control.RunService({ service_id: 'tidy' })).rejects.toThrow('service tidy is no job');
    await expect(control.RunService({ service_id: 'nobody' })).rejects.toThrow('service nobody not found');
  });
});

describe('labels', () => {
  it.each([
    [{ 'shoal.cron': '0 0 30 2 *' }, "label shoal.cron: '0 0 30 2 *'"],
    [{ 'shoal.cron': '@daily', 'shoal.cron.timezone': 'Nowhere' }, 'label shoal.cron.timezone'],
    [{ 'shoal.depends-on': 'tidy' }, 'label shoal.depends-on: service tidy cannot wait for itself'],
  ])('%o are refused', async (labels, words) => {
    await expect(create(labels as Record<string, string>)).rejects.toThrow(words);
  });

  it('a service of a stack cannot wait for itself either', async () => {
    const labels = { 'com.docker.stack.namespace': 'shop', 'shoal.depends-on': 'web' };
    const annotations = { name: 'shop_web', labels };
    await expect(create({}, { annotations })).rejects.toThrow('service shop_web cannot wait for itself');
  });
});
