import { beforeEach, describe, expect, it } from 'vitest';
import { ShoalError, silentLogger, VirtualClock } from '../base/index.ts';
import { NetworkCheckOrder, NetworkCheckReport } from '../proto/index.ts';
import type { AgentConnection } from './connection.ts';
import {
  CHECKS_MAX,
  followNetworkChecks,
  LISTEN_IDLE_MS,
  NumberedSummons,
  type NetworkChecksOptions,
} from './network-checks.ts';

/** A manager that gives these orders and then keeps the stream open. */
function manager(orders: string[], signal: AbortSignal) {
  const reports: NetworkCheckReport[] = [];
  const connection = {
    async *listenChecks(): AsyncGenerator<NetworkCheckOrder> {
      for (const id of orders) yield NetworkCheckOrder.create({ id });
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    },
    reportCheck: async (report: NetworkCheckReport) => void reports.push(report),
  } as Partial<AgentConnection> as AgentConnection;
  return { reports, connection };
}

let clock: VirtualClock;
let summons: NumberedSummons;
beforeEach(() => {
  clock = new VirtualClock();
  summons = new NumberedSummons();
  summons.take(1);
});

const run = (connection: AgentConnection, check: NetworkChecksOptions['check'], signal: AbortSignal): Promise<void> =>
  followNetworkChecks({ connection, clock, log: silentLogger, summons, check }, signal);
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('orders to check networks', () => {
  it('are carried out and reported, faults of the check too', async () => {
    const end = new AbortController();
    const { reports, connection } = manager(['a', 'b'], end.signal);
    const running = run(
      connection,
      async ({ id }) => {
        if (id === 'b') throw new Error('no such thing');
        return NetworkCheckReport.create({ id });
      },
      end.signal,
    );
    await turn();
    expect(reports.map(({ id, error }) => [id, error])).toEqual([
      ['a', ''],
      ['b', 'no such thing'],
    ]);
    end.abort();
    await running;
  });

  it('are bounded in number, and refused where there is nothing to check', async () => {
    const end = new AbortController();
    const ids = Array.from({ length: CHECKS_MAX + 1 }, (_, i) => String(i));
    const busy = manager(ids, end.signal);
    const running = run(busy.connection, () => new Promise(() => undefined), end.signal);
    const bare = manager(['x'], end.signal);
    await turn();
    summons.take(2);
    const other = run(bare.connection, undefined, end.signal);
    await turn();
    expect(busy.reports.map(({ id }) => id)).toEqual([String(CHECKS_MAX)]);
    expect(bare.reports[0]?.error).toBe('this host checks no networks');
    end.abort();
    await Promise.all([running, other]);
  });

  it('end the session when their stream breaks, but not where a manager gives none', async () => {
    const end = new AbortController();
    const failing = (code: 'Unimplemented' | 'Unavailable'): AgentConnection =>
      ({
        // eslint-disable-next-line require-yield
        async *listenChecks(): AsyncGenerator<NetworkCheckOrder> {
          throw new ShoalError(code, 'no');
        },
      }) as Partial<AgentConnection> as AgentConnection;
    await expect(run(failing('Unavailable'), undefined, end.signal)).rejects.toThrow('no');
    summons.take(2);
    let ended = false;
    const waits = [failing('Unimplemented'), {} as AgentConnection].map(async (connection) => {
      await run(connection, undefined, end.signal);
      ended = true;
    });
    await turn();
    expect(ended).toBe(false);
    end.abort();
    await Promise.all(waits);
  });

  it('are listened for when the manager says that there are some, and for a minute after the last', async () => {
    const end = new AbortController();
    let opened = 0;
    const connection = {
      async *listenChecks(signal: AbortSignal): AsyncGenerator<NetworkCheckOrder> {
        opened++;
        yield NetworkCheckOrder.create({ id: 'a' });
        await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
      },
      reportCheck: async () => undefined,
    } as Partial<AgentConnection> as AgentConnection;
    summons = new NumberedSummons();
    const running = run(connection, undefined, end.signal);
    summons.take(0);
    await turn();
    expect(opened).toBe(0);
    summons.take(5);
    await turn();
    expect(opened).toBe(1);
    await clock.advanceAsync(LISTEN_IDLE_MS);
    summons.take(5);
    await turn();
    expect(opened).toBe(1);
    summons.take(6);
    await turn();
    expect(opened).toBe(2);
    end.abort(new Error('over'));
    await running;
  });
});
