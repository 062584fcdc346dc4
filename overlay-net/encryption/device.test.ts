import { createSocket } from 'node:dgram';
import { expect, it } from 'vitest';
import { ShoalError, silentLogger, systemClock, type Spawner, type SpawnResult } from '../../base/index.ts';
import type { Kernel } from '../kernel/ops.ts';
import { WireguardDevice } from './device.ts';

const ended = (code: number): SpawnResult => {
  const none = Buffer.alloc(0);
  return { code, signal: null, stdout: none, stderr: none, truncated: false, timedOut: false };
};

/** A host without WireGuard in its kernel, and without the program that could serve instead. */
function bareHost(): { device: WireguardDevice; ran: string[] } {
  const ran: string[] = [];
  const spawner: Spawner = {
    run: ({ file, args }) => {
      ran.push([file, ...args].join(' '));
      if (file === 'setsid') return Promise.reject(new ShoalError('NotFound', 'wireguard-go: program not found'));
      return Promise.resolve(ended(2));
    },
    close: () => undefined,
  };
  const kernel: Kernel = {
    createNamespace: () => Promise.resolve(),
    removeNamespace: () => undefined,
    apply: () => Promise.resolve(),
    nft: () => Promise.resolve(''),
    forgetFlows: () => Promise.resolve(0),
    flowTargets: () => Promise.resolve(new Set()),
    state: () => Promise.resolve({ links: [], addresses: [], routes: [], neighbours: [], fdb: [], rules: [] }),
  };
  const common = { kernel, spawner, clock: systemClock, log: silentLogger };
  const namespace = '/nowhere/secure';
  return { device: new WireguardDevice({ ...common, name: 'shtestwx', namespace, onLost: () => undefined }), ran };
}

it('refuses in words that name the way out when a host cannot encrypt', async () => {
  const { device, ran } = bareHost();
  await expect(device.ensure(47_903, 1420)).rejects.toMatchObject({
    code: 'FailedPrecondition',
    message:
      'this host cannot encrypt networks, so none is set up: the kernel has no WireGuard and wireguard-go does not ' +
      'start (wireguard-go: program not found); install the packages wireguard-go and wireguard-tools',
  });
  expect(ran).toEqual(['ip link add dev shtestwx type wireguard', 'setsid wireguard-go shtestwx']);
});

it('refuses a UDP port that another program has, before anything is made', async () => {
  const socket = createSocket('udp4');
  const port = await new Promise<number>((resolve) => socket.bind(0, () => resolve(socket.address().port)));
  const { device, ran } = bareHost();
  await expect(device.ensure(port, 1420)).rejects.toThrow(`UDP port ${port}, which encrypted networks need`);
  expect(ran).toEqual([]);
  socket.close();
});
