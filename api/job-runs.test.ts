import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { httpCall, readText, silentLogger } from '../base/index.ts';
import { Service } from '../proto/index.ts';
import { ApiServer, type Ports } from './index.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'api.sock')}`;
const calls: unknown[] = [];
let service = Service.create({ id: 'j1', spec: { annotations: { name: 'tidy' } } });

const ports = {
  system: { version: '0.1.0' },
  swarm: {
    state: () => ({ nodeId: 'n1', controlAvailable: true }),
    call: async (method: string, request: unknown) => {
      calls.push([method, request]);
      return { service };
    },
  },
} as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });
beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

async function json(method: string, path: string): Promise<[number, unknown]> {
  const answer = await httpCall({ host, method, path });
  return [answer.status, JSON.parse(await readText(answer.body))];
}

it('runs a job and tells which run that is', async () => {
  service = Service.create({ id: 'j1', job_status: { job_iteration: { index: 41 } } });
  expect(await json('POST', '/shoal/services/tidy/run')).toEqual([200, { ID: 'j1', JobIteration: { Index: 41 } }]);
  expect(calls).toEqual([['RunService', { service_id: 'tidy' }]]);
});

it('lists the runs of a job that runs by the clock, and says of others that they do not', async () => {
  const run = {
    job_iteration: 41,
    scheduled: { seconds: 60 },
    finished: { seconds: 75 },
    outcome: 'failed',
    message: 'no',
  };
  const spec = { annotations: { name: 'tidy' } };
  service = Service.create({
    id: 'j1',
    spec,
    cron: { schedule: '@daily UTC', next_scheduled: { seconds: 120 }, runs: [run] },
  });
  const [status, body] = await json('GET', '/shoal/services/tidy/runs');
  expect(status).toBe(200);
  expect(body).toEqual({
    Schedule: '@daily UTC',
    NextScheduled: '1970-01-01T00:02:00Z',
    Message: '',
    Runs: [
      {
        JobIteration: { Index: 41 },
        Scheduled: '1970-01-01T00:01:00Z',
        Finished: '1970-01-01T00:01:15Z',
        Outcome: 'failed',
        Message: 'no',
      },
    ],
  });
  expect(await json('GET', '/services/tidy')).toMatchObject([200, { Cron: body }]);
  service = Service.create({ id: 'j1', spec });
  expect(await json('GET', '/shoal/services/tidy/runs')).toEqual([
    400,
    { message: 'service tidy does not run by the clock: it has no label shoal.cron' },
  ]);
});
