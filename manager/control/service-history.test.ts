import { beforeEach, describe, expect, it } from 'vitest';
import { SeededRandom, silentLogger, VirtualClock } from '../../base/index.ts';
import {
  ServiceSpec,
  TaskState,
  UpdateServiceRequest,
  UpdateServiceRequest_Rollback,
  UpdateStatus_UpdateState,
  type Service,
  type ServiceRevision,
} from '../../proto/index.ts';
import { decodeSnapshot, encodeSnapshot } from '../store/codec.ts';
import { REVISIONS_MAX } from '../store/revisions.ts';
import { TableSet } from '../store/tables.ts';
import { aService, aTask, createMemoryStore, type MemoryStore } from '../store/testing.ts';
import { createControl } from './control.ts';

const clock = new VirtualClock(1_700_000_000_000);
let store: MemoryStore;
const control = () => createControl({ store, clock, random: new SeededRandom(1), log: silentLogger });

beforeEach(() => {
  store = createMemoryStore({ clock });
});

function spec(image: string, more: { replicas?: number; auth?: string; labels?: Record<string, string> } = {}) {
  const pull = more.auth === undefined ? {} : { pull_options: { registry_auth: more.auth } };
  return ServiceSpec.create({
    annotations: { name: 'web', labels: more.labels ?? {} },
    task: { container: { image, ...pull } },
    replicated: { replicas: more.replicas ?? 2 },
  });
}

const web = (): Service => store.view().byName('service', 'web')!;
const create = (first: ServiceSpec) => control().CreateService({ spec: first });

async function update(fields: Partial<UpdateServiceRequest>): Promise<Service> {
  const { id, meta } = web();
  const request = { service_id: id, service_version: meta!.version, ...fields };
  return (await control().UpdateService(UpdateServiceRequest.create(request))).service!;
}

async function history(): Promise<ServiceRevision[]> {
  return (await control().ListServiceRevisions({ service_id: 'web' })).revisions;
}

const words = async (): Promise<string[]> =>
  (await history()).map(({ number, reason, spec: one }) => `${number} ${reason} ${one?.task?.container?.image}`);

describe('the history of a service', () => {
  it('has every accepted spec, with why it came', async () => {
    await create(spec('one'));
    await update({ spec: spec('two') });
    await update({ rollback: UpdateServiceRequest_Rollback.PREVIOUS });
    await update({ spec: spec('three') });
    await update({ rollback_to: 2 });
    expect(await words()).toEqual([
      '1 create one',
      '2 update two',
      '3 rollback to revision 1 one',
      '4 update three',
      '5 rollback to revision 2 two',
    ]);
    expect(web()).toMatchObject({
      revision: 5,
      update_status: {
        state: UpdateStatus_UpdateState.ROLLBACK_STARTED,
        message: expect.stringMatching(/revision 2$/),
      },
    });
    expect(web().previous_spec?.task?.container?.image).toBe('three');
    const { current } = await control().ListServiceRevisions({ service_id: 'web' });
    expect(current).toBe(5);
  });

  it('gets nothing from a spec that is refused', async () => {
    await create(spec('one'));
    await expect(update({ spec: spec('') })).rejects.toThrow();
    const service_version = { index: 99 };
    await expect(update({ service_version, spec: spec('two') })).rejects.toThrow('update out of sequence');
    expect(await words()).toEqual(['1 create one']);
  });

  it('keeps the last revisions only, and all numbers go on', async () => {
    await create(spec('v1'));
    for (let i = 2; i <= REVISIONS_MAX + 5; i++) await update({ spec: spec(`v${i}`) });
    const kept = await history();
    expect(kept).toHaveLength(REVISIONS_MAX);
    expect([kept[0]?.number, kept.at(-1)?.number, web().revision]).toEqual([6, 25, 25]);
    await expect(update({ rollback_to: 3 })).rejects.toThrow(/service web has no revision 3: there are 6, 7, .*, 25$/);
    await expect(update({ rollback_to: 25 })).rejects.toThrow('revision 25 of service web is the one in force');
  });

  it('holds no credentials, and a rollback takes those of the request or of the present spec', async () => {
    await create(spec('one', { auth: 'old' }));
    await update({ spec: spec('two', { auth: 'present' }) });
    for (const revision of await history()) expect(revision.spec?.task?.container?.pull_options).toBeNull();
    const auth = () => web().spec?.task?.container?.pull_options?.registry_auth;
    await update({ rollback_to: 1 });
    expect([web().spec?.task?.container?.image, auth()]).toEqual(['one', 'present']);
    await update({ rollback_to: 2, spec: spec('x', { auth: 'fresh' }) });
    expect([web().spec?.task?.container?.image, auth()]).toEqual(['two', 'fresh']);
  });

  it('begins with two revisions for a service from before there was one', async () => {
    await store.seed({ service: [aService('old', { spec: spec('one') })] });
    expect(await history()).toEqual([]);
    await expect(update({ rollback_to: 1 })).rejects.toThrow('service web has no revision 1: it has none yet');
    await update({ spec: spec('two') });
    expect(await words()).toEqual(['1 in force when the history began one', '2 update two']);
  });

  it('goes with its service', async () => {
    await create(spec('one'));
    await update({ spec: spec('two') });
    await control().RemoveService({ service_id: 'web' });
    expect(store.view().list('revision')).toEqual([]);
  });

  it('is part of snapshots; those of former versions, which have none, are read', () => {
    const tables = new TableSet();
    tables.put('service', aService('s1'));
    const bare = encodeSnapshot(tables);
    const revision = { id: 's1.1', meta: null, service_id: 's1', number: 1, spec: null, reason: 'create' };
    tables.put('revision', revision);
    expect(decodeSnapshot(encodeSnapshot(tables)).revisionsByService('s1')).toEqual([revision]);
    expect(decodeSnapshot(bare).revisionsByService('s1')).toEqual([]);
  });
});

describe('the same spec again', () => {
  const running = () =>
    store.update((tx) => {
      const { id, spec: present, spec_version } = web();
      const task = { service_id: id, spec: present!.task, spec_version, status: { state: TaskState.RUNNING } };
      tx.create('task', aTask('t1', { ...task, desired_state: TaskState.RUNNING }));
    });

  it('changes nothing at all, neither the version nor what a rollback goes to', async () => {
    await create(spec('one'));
    await update({ spec: spec('two') });
    const before = web();
    await update({ spec: spec('two') });
    expect(web()).toEqual(before);
    expect(await history()).toHaveLength(2);
  });

  it('leaves an update that is under way alone', async () => {
    await create(spec('one'));
    await running();
    await update({ spec: spec('two') });
    const before = web();
    expect(before.update_status?.state).toBe(UpdateStatus_UpdateState.UPDATING);
    await update({ spec: spec('two') });
    expect(web()).toEqual(before);
  });

  it('with other credentials keeps those, and is no revision', async () => {
    await create(spec('one', { auth: 'a' }));
    await running();
    await update({ spec: spec('two', { auth: 'a' }) });
    const { update_status, previous_spec } = web();
    await update({ spec: spec('two', { auth: 'b' }) });
    expect(web().spec?.task?.container?.pull_options?.registry_auth).toBe('b');
    expect(web()).toMatchObject({ revision: 2, update_status, previous_spec });
  });

  it('lets a paused update go on, as Docker does', async () => {
    await create(spec('one'));
    await running();
    await update({ spec: spec('two') });
    await store.update((tx) => {
      const status = { ...web().update_status!, state: UpdateStatus_UpdateState.PAUSED, message: 'paused' };
      tx.update('service', { ...web(), update_status: status });
    });
    await update({ spec: spec('two') });
    expect(web().update_status).toMatchObject({ state: UpdateStatus_UpdateState.UPDATING });
    expect(web().previous_spec?.task?.container?.image).toBe('one');
  });
});
