import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { httpCall, httpJson, readText, silentLogger } from '../base/index.ts';
import { Service, ServiceRevision, timestampFromMs } from '../proto/index.ts';
import { ApiServer, type Ports } from './index.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'api.sock')}`;
const calls: [string, unknown][] = [];
const spec = { annotations: { name: 'web' }, task: { container: { image: 'one' } }, replicated: { replicas: 2 } };
const secret = { ...spec, task: { container: { image: 'one', pull_options: { registry_auth: 'c2VjcmV0' } } } };
const meta = { version: { index: 7 }, created_at: timestampFromMs(1_700_000_000_000) };
const canary = { tasks: 1, waiting_since: timestampFromMs(1_700_000_000_000) };

const answers: Record<string, object> = {
  GetService: { service: Service.create({ id: 's1', meta, spec: secret, revision: 2, canary }) },
  ListServiceRevisions: {
    revisions: [
      ServiceRevision.create({ id: 's1.1', meta, service_id: 's1', number: 1, spec, reason: 'create' }),
      ServiceRevision.create({ id: 's1.2', meta, service_id: 's1', number: 2, spec: secret, reason: 'update' }),
    ],
    current: 2,
  },
};
const call = async (method: string, request: unknown): Promise<object> => {
  calls.push([method, request]);
  return answers[method] ?? {};
};
const ports = {
  swarm: { call, callStale: call, state: () => ({ controlAvailable: true, localNodeState: 'active' }) },
  system: { version: '0.1.0' },
} as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });
beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

async function post(path: string, headers: Record<string, string> = {}): Promise<[number, string]> {
  const answer = await httpCall({ host, method: 'POST', path, headers });
  return [answer.status, await readText(answer.body)];
}

it('lists revisions without credentials', async () => {
  const list = await httpJson<object[]>({ host, method: 'GET', path: '/shoal/services/web/history' });
  expect(list).toMatchObject([
    { Number: 1, Reason: 'create', Current: false, CreatedAt: '2023-11-14T22:13:20Z', Spec: { Name: 'web' } },
    { Number: 2, Reason: 'update', Current: true },
  ]);
  expect(JSON.stringify(list)).not.toContain('c2VjcmV0');
  expect(calls.at(-1)).toEqual(['ListServiceRevisions', { service_id: 'web' }]);
});

it('promotes', async () => {
  const [status] = await post('/shoal/services/web/promote');
  expect([status, calls.at(-1)]).toEqual([200, ['PromoteService', { service_id: 'web' }]]);
});

it('rolls back to a revision without a body, with the credentials of the request', async () => {
  const update = '/services/web/update?version=7';
  await post(`${update}&rollbackTo=1`);
  expect(calls.at(-1)).toMatchObject(['UpdateService', { service_id: 's1', rollback_to: 1, spec: null }]);
  await post(`${update}&rollbackTo=1`, { 'X-Registry-Auth': 'ZnJlc2g=' });
  const fresh = { task: { container: { pull_options: { registry_auth: 'ZnJlc2g=' } } } };
  expect(calls.at(-1)).toMatchObject(['UpdateService', { rollback_to: 1, spec: fresh }]);
  for (const number of ['0', '-1', 'x', '']) expect((await post(`${update}&rollbackTo=${number}`))[0]).toBe(400);
});

it('shows revision and canary of a service', async () => {
  const service = await httpJson<object>({ host, method: 'GET', path: '/services/web' });
  expect(service).toMatchObject({ Revision: 2, Canary: { Tasks: 1, WaitingSince: '2023-11-14T22:13:20Z' } });
});
