import { beforeEach, describe, expect, it } from 'vitest';
import { ShoalError, silentLogger, unavailable, VirtualClock } from '../base/index.ts';
import {
  durationFromNs,
  ReportAck,
  TaskState,
  TaskStatus,
  type AgentReport,
  type HeartbeatRequest,
  type UpdateTaskStatusRequest,
} from '../proto/index.ts';
import type { AgentConnection, ReportEvents } from './connection.ts';
import { ReportChannel } from './report-channel.ts';

const period = durationFromNs(1e9);
const updates = [{ task_id: 't1', status: TaskStatus.create({ state: TaskState.RUNNING }) }];
const usage = [{ task_id: 't1', cpu_ns: 1, memory_bytes: 2, at_ns: 3 }];

describe('channel of reports', () => {
  let clock: VirtualClock;
  let sent: AgentReport[];
  let calls: (HeartbeatRequest | UpdateTaskStatusRequest)[];
  let events: ReportEvents;
  let closed: number;
  let controller: AbortController;

  const connection = (streams: boolean): AgentConnection => {
    const unused = (): never => {
      throw new Error('not part of this test');
    };
    return {
      ...{ session: unused, assignments: unused, listenSubscriptions: unused, publishLogs: unused },
      close: () => undefined,
      heartbeat: async (request) => {
        calls.push(request);
        return { period };
      },
      updateTaskStatus: async (request) => void calls.push(request),
      ...(streams && {
        reports: (given: ReportEvents) => {
          events = given;
          return { send: (report: AgentReport) => void sent.push(report), close: () => void closed++ };
        },
      }),
    };
  };
  const channelOf = (streams: boolean): ReportChannel =>
    new ReportChannel(
      { connection: connection(streams), sessionId: 's1', clock, log: silentLogger },
      controller.signal,
    );
  const answer = (fields: Partial<ReportAck>): void => events.answer(ReportAck.create(fields));

  beforeEach(() => {
    clock = new VirtualClock();
    [sent, calls, closed] = [[], [], 0];
    controller = new AbortController();
  });

  it('tells heartbeats and statuses on the stream, and waits for the answer to each', async () => {
    const channel = channelOf(true);
    const beat = channel.heartbeat(usage, 2000);
    let stored = false;
    const update = channel.update(updates, 30_000).then(() => (stored = true));
    expect(sent).toEqual([
      { session_id: 's1', number: 1, heartbeat: true, usage, updates: [] },
      { session_id: '', number: 2, heartbeat: false, usage: [], updates },
    ]);
    answer({ heartbeat: 1, period });
    expect(await beat).toEqual(period);
    const next = channel.heartbeat([], 2000);
    answer({ heartbeat: 3, period: null, committed: 1 });
    expect(await next).toBeNull();
    expect(stored).toBe(false);
    answer({ committed: 2 });
    await update;
    await clock.advanceAsync(60_000);
    expect([calls, closed]).toEqual([[], 0]);
  });

  it('uses the calls where the manager has no stream, and stays with them', async () => {
    const channel = channelOf(true);
    const beat = channel.heartbeat(usage, 2000);
    const update = channel.update(updates, 30_000);
    events.ended(new ShoalError('Unimplemented', 'The server does not implement the method'));
    expect(await beat).toEqual(period);
    await update;
    await channel.heartbeat([], 2000);
    expect(calls).toHaveLength(3);
    expect(calls).toEqual(
      expect.arrayContaining([
        { session_id: 's1', usage },
        { session_id: 's1', updates },
        { session_id: 's1', usage: [] },
      ]),
    );
    expect(sent).toHaveLength(2);
    await channelOf(false).heartbeat([], 2000);
    expect(calls).toHaveLength(4);
  });

  it('fails when no answer comes in time, when the stream ends, and when the session ends', async () => {
    const late = channelOf(true);
    const [beat, update] = [late.heartbeat([], 2000), late.update(updates, 30_000)];
    const refused = [beat, update].map((one) => expect(one).rejects.toMatchObject({ code: 'DeadlineExceeded' }));
    await clock.advanceAsync(2000);
    await Promise.all(refused);
    expect(closed).toBe(1);
    await expect(late.heartbeat([], 2000)).rejects.toMatchObject({ code: 'DeadlineExceeded' });

    const broken = channelOf(true);
    const lost = expect(broken.update(updates, 30_000)).rejects.toMatchObject({ code: 'Unavailable' });
    events.ended(unavailable('the connection broke'));
    await lost;
    await expect(broken.heartbeat([], 2000)).rejects.toMatchObject({ code: 'Unavailable' });

    const over = channelOf(true);
    const aborted = expect(over.heartbeat([], 2000)).rejects.toMatchObject({ code: 'Aborted' });
    controller.abort(new Error('enough'));
    await aborted;
    expect([calls, closed]).toEqual([[], 3]);
  });
});
