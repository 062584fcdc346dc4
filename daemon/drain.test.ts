import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, createServer, type AddressInfo } from 'node:net';
import { networkInterfaces } from 'node:os';
import { describe, expect, it } from 'vitest';
import { VirtualClock } from '../base/index.ts';
import { drained, inboundConnections } from './drain.ts';

const HEADER = '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt\n';
const row = (local: string, remote: string, state: string): string =>
  `   0: ${local} ${remote} ${state} 00000000:00000000 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0\n`;

describe('connections of a task', () => {
  const listening = row('00000000:0050', '00000000:0000', '0A');

  it('count while a peer may still wait for data', () => {
    const counted = ['01', '03', '04', '08', '09', '0B'];
    for (const state of ['01', '02', '03', '04', '05', '06', '07', '08', '09', '0B']) {
      const table = HEADER + listening + row('0500000A:0050', '0600000A:9C40', state);
      expect([state, inboundConnections([table])]).toEqual([state, counted.includes(state) ? 1 : 0]);
    }
  });

  it('are those of others to its servers, in both tables', () => {
    const own = row('0500000A:9C41', '0700000A:0050', '01');
    const health = row('0100007F:0050', '0100007F:9C42', '01');
    expect(inboundConnections([HEADER + listening + own + health])).toBe(0);
    const mapped = '0000000000000000FFFF00000600000A';
    const six = row('00000000000000000000000000000000:0050', '00000000000000000000000000000000:0000', '0A');
    const peer = row(`0000000000000000FFFF00000500000A:0050`, `${mapped}:9C40`, '01');
    expect(inboundConnections([HEADER, HEADER + six + peer])).toBe(1);
    expect(inboundConnections(['', ''])).toBe(0);
  });

  it('are seen in the real table of this process', async () => {
    const address = Object.values(networkInterfaces())
      .flatMap((list) => list ?? [])
      .find((one) => one.family === 'IPv4' && !one.internal)?.address;
    if (address === undefined) return;
    const server = createServer(() => undefined).listen(0, address);
    await once(server, 'listening');
    const tables = async (): Promise<string[]> => [await readFile('/proc/self/net/tcp', 'latin1')];
    const before = inboundConnections(await tables());
    const client = connect((server.address() as AddressInfo).port, address);
    await once(client, 'connect');
    expect(inboundConnections(await tables())).toBeGreaterThan(before);
    client.destroy();
    server.close();
  });
});

describe('draining', () => {
  async function tookMs(mostMs: number, openForMs: number): Promise<number> {
    const clock = new VirtualClock(0);
    let ended: number | undefined;
    const count = async (): Promise<number> => (clock.monotonic() < openForMs ? 1 : 0);
    void drained(1, mostMs, clock, count).then(() => (ended = clock.monotonic()));
    for (let i = 0; i < 200 && ended === undefined; i++) await clock.advanceAsync(50);
    return ended ?? Infinity;
  }

  it('ends with the last connection, not before news has spread, and not later than told', async () => {
    expect(await tookMs(5_000, 0)).toBe(500);
    expect(await tookMs(5_000, 1_250)).toBe(1_300);
    expect(await tookMs(5_000, 60_000)).toBe(5_000);
    expect(await tookMs(200, 60_000)).toBe(200);
    expect(await tookMs(0, 60_000)).toBe(0);
  });
});
