import { expect, it } from 'vitest';
import type { Service } from './objects.ts';
import { prettyService } from './service-pretty.ts';

it('tells of a job by the clock when it runs next and how it went', () => {
  const service = {
    ID: 'j1',
    Version: { Index: 1 },
    Spec: { Name: 'tidy', Mode: { ReplicatedJob: {} }, TaskTemplate: { ContainerSpec: { Image: 'one' } } },
    Cron: {
      Schedule: '0 3 * * * UTC',
      NextScheduled: '1970-01-02T03:00:00Z',
      Message: '',
      Runs: [{ JobIteration: { Index: 7 }, Scheduled: '1970-01-01T03:00:00Z', Outcome: 'failed', Message: 'exit 1' }],
    },
  } as unknown as Service;
  const text = prettyService(service, new Map(), Date.parse('1970-01-02T00:00:00Z'));
  expect(text).toContain(
    'Cron:\n Schedule:\t0 3 * * * UTC\n Next run:\tin 3 hours (1970-01-02T03:00:00Z)\n' +
      ' Last run:\t1970-01-01T03:00:00Z failed (exit 1)\n',
  );
});
