import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { afterAll, describe, expect, it } from 'vitest';
import { systemClock } from '../base/index.ts';
import { servedPorts } from '../overlay-net/index.ts';
import { untilServing } from './listening.ts';

const tcp = createServer();
const udp = createSocket('udp6');
afterAll(() => {
  tcp.close();
  udp.close();
});

const here = (): Set<string> => servedPorts('/proc/self/ns/net', ['tcp', 'udp']);

describe('ports of a container', () => {
  const signal = AbortSignal.timeout(10_000);

  it('are waited for until they are served, of both protocols and families', async () => {
    const probe = createServer().listen(0);
    await once(probe, 'listening');
    const { port } = probe.address() as AddressInfo;
    await new Promise((resolve) => probe.close(resolve));
    expect(here()).not.toContain(`${port}/tcp`);
    let asked = 0;
    const pid = (): number => {
      asked += 1;
      // Served from the third look on.
      if (asked === 3) tcp.listen(port, '127.0.0.1');
      return process.pid;
    };
    udp.bind(0);
    await once(udp, 'listening');
    const wanted = [`${port}/tcp`, `${udp.address().port}/udp`, '9/sctp'];
    await untilServing(wanted, pid, systemClock, signal);
    expect(asked).toBeGreaterThanOrEqual(3);
    expect([...here()]).toEqual(expect.arrayContaining(wanted.slice(0, 2)));
  });

  it('that nobody serves are given up, and those of a process that has ended at once', async () => {
    let asked = 0;
    const gone = (): number => {
      asked += 1;
      return 0;
    };
    await untilServing(['1/tcp'], gone, systemClock, signal);
    expect(asked).toBe(1);
    await untilServing(['1/tcp'], () => process.pid, systemClock, signal);
    await untilServing([], gone, systemClock, signal);
    expect(asked).toBe(1);
  });
});
