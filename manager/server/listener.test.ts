import { EventEmitter } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, Server as TlsServer, type TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { must, silentLogger, systemClock, VirtualClock, type Clock } from '../../base/index.ts';
import {
  createCsr,
  createRootCa,
  identityFromPem,
  issueCertificate,
  TlsIdentity,
  type NodeIdentity,
} from '../../identity/index.ts';
import { until } from '../testing.ts';
import { HANDSHAKE_TIMEOUT_MS, HANDSHAKES_MAX, HANDSHAKES_PER_TURN, UNFINISHED_MAX } from './admission.ts';
import { TlsListener } from './listener.ts';

const MANAGER_HOST = '127.0.0.2';
const root = createRootCa({ nowMs: Date.now() });
const open: (Socket | TLSSocket)[] = [];
let listener: TlsListener | undefined;

afterEach(() => {
  for (const socket of open.splice(0)) socket.destroy();
  listener?.close();
});

function identity(nodeId: string, ca = root): NodeIdentity {
  const { csr, key } = createCsr();
  const fields = { csr, nodeId, clusterId: 'c', role: 'manager', nowMs: Date.now(), lifetimeMs: 3_600_000 } as const;
  return identityFromPem(issueCertificate({ ...fields, caCert: ca.cert, caKey: ca.key }), key, ca.cert);
}

/** Counts handshakes that any TLS server begins between two looks at immediates, which is a turn of the event loop. */
function countHandshakes(): { most: () => number; all: () => number; stop: () => void } {
  let [inTurn, most, all] = [0, 0, 0];
  const emit = vi.spyOn(TlsServer.prototype, 'emit').mockImplementation(function (this: TlsServer, ...args) {
    if ((args as unknown[])[0] === 'connection') [inTurn, all] = [inTurn + 1, all + 1];
    return EventEmitter.prototype.emit.apply(this, args as [string, ...unknown[]]);
  });
  const look = (): void => {
    most = Math.max(most, inTurn);
    inTurn = 0;
    immediate = setImmediate(look);
  };
  let immediate = setImmediate(look);
  const stop = (): void => {
    clearImmediate(immediate);
    emit.mockRestore();
  };
  return { most: () => most, all: () => all, stop };
}

async function listen(tls: TlsIdentity, clock: Clock, serve: (socket: TLSSocket) => void): Promise<number> {
  const isPreferred = (host: string): boolean => host === MANAGER_HOST;
  listener = new TlsListener({ tls, clock, log: silentLogger, isPreferred, serve });
  return listener.listen('127.0.0.1:0');
}

const client = identity('client');
const secureContext = createSecureContext({ cert: client.cert, key: client.key, ca: root.cert });

function connect(port: number, localAddress = '127.0.0.1', context = secureContext): TLSSocket {
  const socket = connectTls({
    ...{ host: '127.0.0.1', port, localAddress, servername: 'swarm-manager', secureContext: context },
    ALPNProtocols: ['h2'],
  });
  socket.on('error', () => undefined);
  open.push(socket);
  return socket;
}

describe('listener', () => {
  it('serves 500 connections that come at once, few in a turn', { timeout: 60_000 }, async () => {
    let [served, mostUnfinished] = [0, 0];
    const port = await listen(new TlsIdentity(identity('m1')), systemClock, (socket) => {
      served++;
      mostUnfinished = Math.max(mostUnfinished, must(listener, 'listener').load.unfinished);
      expect([socket.authorized, socket.alpnProtocol]).toEqual([true, 'h2']);
    });
    const handshakes = countHandshakes();
    for (let i = 0; i < 500; i++) connect(port);
    await until('all are served', () => served === 500, 50_000);
    handshakes.stop();
    expect(handshakes.all()).toBe(500);
    expect(handshakes.most()).toBeLessThanOrEqual(HANDSHAKES_PER_TURN);
    expect(mostUnfinished).toBeLessThan(UNFINISHED_MAX);
    expect(listener?.load).toEqual({ waiting: 0, unfinished: 0 });
  });

  it('serves a manager while agents fill all places', async () => {
    const clock = new VirtualClock();
    const served: string[] = [];
    const port = await listen(new TlsIdentity(identity('m1')), clock, (one) => served.push(one.remoteAddress ?? ''));
    const load = (): number => must(listener, 'listener').load.waiting + must(listener, 'listener').load.unfinished;
    for (let i = 0; i < 2 * HANDSHAKES_MAX; i++) open.push(connectTcp(port, '127.0.0.1').on('error', () => undefined));
    await until('all are accepted', () => load() === 2 * HANDSHAKES_MAX);
    clock.advance(HANDSHAKES_MAX);
    connect(port);
    connect(port, MANAGER_HOST);
    await until('the manager is served', () => served.length > 0);
    expect(served).toEqual([MANAGER_HOST]);
  });

  it('drops connections that never speak', async () => {
    const clock = new VirtualClock();
    let served = 0;
    const port = await listen(new TlsIdentity(identity('m1')), clock, () => served++);
    const silent = Array.from({ length: 40 }, () => connectTcp(port, '127.0.0.1').on('error', () => undefined));
    open.push(...silent);
    const load = (): { waiting: number; unfinished: number } => must(listener, 'listener').load;
    await until('all are accepted', () => load().waiting + load().unfinished === 40);
    expect(load().unfinished).toBe(HANDSHAKES_PER_TURN);
    clock.advance(HANDSHAKES_MAX);
    expect(load().unfinished).toBe(HANDSHAKES_MAX);
    clock.advance(2 * HANDSHAKE_TIMEOUT_MS);
    await until('all are closed', () => silent.every((socket) => socket.destroyed));
    expect([served, load()]).toEqual([0, { waiting: 0, unfinished: 0 }]);
  });

  it('what a connection says before it is handed on is kept', async () => {
    const clock = new VirtualClock();
    const served: TLSSocket[] = [];
    const port = await listen(new TlsIdentity(identity('m1')), clock, (socket) => served.push(socket));
    const sockets = Array.from({ length: 12 }, () => connect(port));
    for (const socket of sockets) socket.write('hello');
    await until('all are handed on', () => {
      clock.advance(1);
      return served.length === 12;
    });
    for (const socket of served) {
      await until('it is there', () => socket.readableLength === 5);
      expect(socket.read()?.toString()).toBe('hello');
    }
  });

  it('a certificate of another authority counts as none; a renewed one of ours is shown from then on', async () => {
    const served: TLSSocket[] = [];
    const tls = new TlsIdentity(identity('before'));
    const port = await listen(tls, systemClock, (socket) => served.push(socket));
    const foreign = identity('x', createRootCa({ nowMs: Date.now() }));
    connect(port, '127.0.0.1', createSecureContext({ cert: foreign.cert, key: foreign.key, ca: root.cert }));
    await until('the stranger is served', () => served.length === 1);
    expect(served[0]?.authorized).toBe(false);
    const names: string[] = [];
    const nameShown = async (): Promise<string> => {
      const socket = connect(port);
      await until('secure', () => !socket.connecting && socket.getPeerCertificate().subject !== undefined);
      return String(socket.getPeerCertificate().subject.CN);
    };
    names.push(await nameShown());
    tls.update(identity('after'));
    names.push(await nameShown());
    expect(names).toEqual(['before', 'after']);
  });

  it('says which address is taken', async () => {
    const port = await listen(new TlsIdentity(identity('m1')), systemClock, () => undefined);
    const other = new TlsListener({
      ...{ tls: new TlsIdentity(identity('m2')), clock: systemClock, log: silentLogger },
      ...{ isPreferred: () => false, serve: () => undefined },
    });
    await expect(other.listen(`127.0.0.1:${port}`)).rejects.toThrow(
      `cannot listen on 127.0.0.1:${port}: listen EADDRINUSE`,
    );
    other.close();
  });
});
