import { createServer, type AddressInfo } from 'node:net';
import { connect as connectTls, createServer as createTlsServer } from 'node:tls';
import { Client, Server, ServerCredentials, type handleUnaryCall } from '@grpc/grpc-js';
import { afterEach, describe, expect, it } from 'vitest';
import { invalidArgument, SeededRandom, silentLogger, systemClock, systemRandom } from '../base/index.ts';
import {
  CAService,
  GetRootCACertificateResponse,
  grpcService,
  HealthCheckRequest,
  HealthCheckResponse,
  HealthService,
  NodeCAService,
} from '../proto/index.ts';
import {
  callUnary,
  channelOptions,
  createCsr,
  createRootCa,
  identityFromPem,
  issueCertificate,
  makeJoinToken,
  peerIdentity,
  renewalDelayMs,
  requestCertificate,
  TlsIdentity,
  toServiceError,
  unverifiedCredentials,
  type NodeIdentity,
  type PeerIdentity,
} from './index.ts';

const nowMs = Date.now();
const ca = createRootCa({ nowMs });

function identity(nodeId: string, role: 'manager' | 'worker' = 'manager', authority = ca): NodeIdentity {
  const { csr, key } = createCsr();
  const caFields = { caCert: authority.cert, caKey: authority.key };
  const cert = issueCertificate({ csr, nodeId, clusterId: 'c', role, ...caFields, nowMs, lifetimeMs: 3_600_000 });
  return identityFromPem(cert, key, authority.cert);
}

const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

/** A server that answers Health with the caller it saw. */
async function startServer(tls: TlsIdentity, seen: (PeerIdentity | undefined)[]): Promise<number> {
  const server = new Server();
  const check: handleUnaryCall<HealthCheckRequest, HealthCheckResponse> = (call, reply) => {
    seen.push(peerIdentity(call));
    reply(null, HealthCheckResponse.create({ status: 1 }));
  };
  server.addService(grpcService(HealthService), { Check: check as never });
  return listen(server, tls);
}

/** Serves connections after TLS as managers do (manager/server/listener.ts). */
async function listen(server: Server, tls: TlsIdentity): Promise<number> {
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure());
  const listener = createTlsServer(tls.serverOptions(), (socket) => injector.injectConnection(socket));
  const end = tls.onUpdate(() => listener.setSecureContext(tls.serverOptions()));
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  stops.push(() => {
    end();
    listener.close();
    server.forceShutdown();
  });
  return (listener.address() as AddressInfo).port;
}

async function check(port: number, credentials = unverifiedCredentials(), options = channelOptions()): Promise<void> {
  const client = new Client(`127.0.0.1:${port}`, credentials, options);
  try {
    await callUnary(client, HealthService.Check, HealthCheckRequest.create(), { timeoutMs: 3_000 });
  } finally {
    client.close();
  }
}

describe('mutual TLS', () => {
  it('tells who calls; no certificate or a foreign one counts as nobody', async () => {
    const seen: (PeerIdentity | undefined)[] = [];
    const port = await startServer(new TlsIdentity(identity('m1')), seen);
    await check(port, new TlsIdentity(identity('w1', 'worker')).channelCredentials());
    await check(port);
    const foreign = identity('evil', 'manager', createRootCa({ nowMs }));
    await check(port, new TlsIdentity({ ...foreign, rootCa: ca.cert }).channelCredentials());
    expect(seen).toEqual([{ nodeId: 'w1', role: 'worker', clusterId: 'c' }, undefined, undefined]);
  });

  it('checks the name and the root of the server', async () => {
    const managerPort = await startServer(new TlsIdentity(identity('m1')), []);
    const workerPort = await startServer(new TlsIdentity(identity('w1', 'worker')), []);
    const ours = new TlsIdentity(identity('m2'));
    await check(managerPort, ours.channelCredentials(), channelOptions('swarm-ca'));
    await expect(check(workerPort, ours.channelCredentials())).rejects.toMatchObject({ code: 'Unavailable' });
    const stranger = new TlsIdentity(identity('x', 'manager', createRootCa({ nowMs })));
    await expect(check(managerPort, stranger.channelCredentials())).rejects.toMatchObject({ code: 'Unavailable' });
  });

  it('presents a renewed certificate on both sides without a restart', async () => {
    const [serverTls, clientTls] = [new TlsIdentity(identity('m1')), new TlsIdentity(identity('w1', 'worker'))];
    const seen: (PeerIdentity | undefined)[] = [];
    const port = await startServer(serverTls, seen);
    await check(port, clientTls.channelCredentials());
    const peer = async (): Promise<string | undefined> =>
      new Promise((resolve, reject) => {
        const options = { host: '127.0.0.1', port, rejectUnauthorized: false, ALPNProtocols: ['h2'] };
        const socket = connectTls(options, () => {
          resolve(`${String(socket.getPeerCertificate().subject.CN)} ${String(socket.alpnProtocol)}`);
          socket.destroy();
        }).on('error', reject);
      });
    expect(await peer()).toBe('m1 h2');
    serverTls.update(identity('m1-renewed'));
    clientTls.update(identity('w1', 'manager'));
    expect(await peer()).toBe('m1-renewed h2');
    await check(port, clientTls.channelCredentials());
    expect(seen.map((one) => one?.role)).toEqual(['worker', 'manager']);
  });
});

describe('joining', () => {
  const base = { clock: systemClock, random: systemRandom, log: silentLogger };

  it('names a dead address, within its time', async () => {
    const probe = createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => probe.once('listening', resolve));
    const { port } = probe.address() as AddressInfo;
    await new Promise((resolve) => probe.close(resolve));
    const remoteAddr = `127.0.0.1:${port}`;
    const begin = performance.now();
    const request = requestCertificate({ ...base, remoteAddr, token: makeJoinToken(ca.cert), timeoutMs: 1_000 });
    await expect(request).rejects.toMatchObject({ code: 'Unavailable', message: expect.stringContaining(remoteAddr) });
    expect(performance.now() - begin).toBeLessThan(3_000);
  });

  it('a silent address is given up after the time allowed', async () => {
    const silent = createServer(() => undefined).listen(0, '127.0.0.1');
    await new Promise((resolve) => silent.once('listening', resolve));
    stops.push(() => silent.close());
    const remoteAddr = `127.0.0.1:${(silent.address() as AddressInfo).port}`;
    const request = requestCertificate({ ...base, remoteAddr, token: makeJoinToken(ca.cert), timeoutMs: 500 });
    await expect(request).rejects.toMatchObject({ code: 'Unavailable', message: expect.stringContaining(remoteAddr) });
  });

  it('stops when the caller does, and refuses a malformed token before any call', async () => {
    const controller = new AbortController();
    controller.abort(new Error('enough'));
    const remoteAddr = '127.0.0.1:1';
    const token = makeJoinToken(ca.cert);
    await expect(requestCertificate({ ...base, remoteAddr, token, signal: controller.signal })).rejects.toThrow(
      'enough',
    );
    await expect(requestCertificate({ ...base, remoteAddr, token: 'nonsense' })).rejects.toThrow('invalid join token');
  });

  it('refuses another cluster by its fingerprint, and passes on the words of the manager', async () => {
    const server = new Server();
    server.addService(grpcService(CAService), {
      GetRootCACertificate: ((_call: unknown, reply: (e: null, r: unknown) => void) =>
        reply(null, GetRootCACertificateResponse.create({ certificate: Buffer.from(ca.cert) }))) as never,
    });
    server.addService(grpcService(NodeCAService), {
      IssueNodeCertificate: ((_call: unknown, reply: (e: unknown) => void) =>
        reply(toServiceError(invalidArgument('A valid join token is necessary to join this cluster')))) as never,
    });
    const tls = new TlsIdentity(identity('m1'));
    const port = await listen(server, tls);
    const remoteAddr = `127.0.0.1:${port}`;
    const other = makeJoinToken(createRootCa({ nowMs }).cert);
    await expect(requestCertificate({ ...base, remoteAddr, token: other })).rejects.toThrow(
      /^remote CA does not match fingerprint. Expected: /,
    );
    await expect(requestCertificate({ ...base, remoteAddr, token: makeJoinToken(ca.cert) })).rejects.toMatchObject({
      code: 'InvalidArgument',
      message: 'A valid join token is necessary to join this cluster',
    });
  });
});

it('renewal comes between 50 and 80 % of the validity, at once when that is past', () => {
  const validity = { notBeforeMs: 1_000, expiryMs: 101_000 };
  for (let seed = 0; seed < 50; seed++) {
    const delay = renewalDelayMs(validity, 1_000, new SeededRandom(seed));
    expect(delay).toBeGreaterThanOrEqual(50_000);
    expect(delay).toBeLessThanOrEqual(80_000);
  }
  expect(renewalDelayMs(validity, 90_000, new SeededRandom(1))).toBe(0);
});
