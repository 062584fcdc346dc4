import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { httpCall, httpJson, invalidArgument, readText, silentLogger, unavailable } from '../base/index.ts';
import { ApiServer, type Ports, type SwarmPort } from './index.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-'));
const host = `unix://${join(dir, 'api.sock')}`;
const LOSS = { line: 'no leader: 1 of 3', lines: ['1 of 3', '  - m2', '  - m3'] };
let lost = false;
let asked: unknown;

async function total(body: AsyncIterable<Uint8Array>): Promise<number> {
  let bytes = 0;
  for await (const chunk of body) bytes += chunk.length;
  return bytes;
}

const swarm: Partial<SwarmPort> = {
  state: () => ({
    nodeId: 'n1',
    nodeAddr: '10.0.0.1',
    localNodeState: 'active',
    controlAvailable: true,
    error: '',
    remoteManagers: [],
    quorumLoss: lost ? LOSS : undefined,
  }),
  call: async () => {
    throw unavailable('no leader');
  },
  callStale: (async () => ({ nodes: [], services: [], tasks: [] })) as unknown as SwarmPort['callStale'],
  backup: async (options) => {
    asked = options;
    if (lost && !options.stale) throw unavailable('no leader');
    return (async function* () {
      for (let i = 0; i < 40; i++) yield Buffer.alloc(100_000, i);
    })();
  },
  inspectBackup: async (body, passphrase) => ({ bytes: await total(body), passphrase }),
  restore: async (body, request) => {
    asked = request;
    for await (const chunk of body)
      throw invalidArgument(`the backup is bad after ${chunk.length > 0 ? 'some' : 'no'} bytes`);
    return 'n2';
  },
  rejoin: async (addresses) => {
    asked = addresses;
  },
};
const ports = {
  swarm,
  system: { version: '0.1.0', info: async () => ({ Warnings: null }) },
  engine: { containers: { list: () => [] }, images: { list: () => [] } },
} as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });
beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

const word = { 'Shoal-Passphrase': Buffer.from('grün').toString('base64') };

describe('without a quorum', () => {
  it('what the manager last knew is served when it is asked for, and said to be that', async () => {
    const plain = await httpCall({ host, method: 'GET', path: '/nodes' });
    expect([plain.status, await readText(plain.body)]).toEqual([503, '{"message":"no leader"}\n']);
    const stale = await httpCall({ host, method: 'GET', path: '/v1.45/nodes?stale=1' });
    expect([stale.status, stale.headers['shoal-stale'], await readText(stale.body)]).toEqual([200, 'true', '[]\n']);
  });

  it('info says what is lost', async () => {
    lost = true;
    const info = await httpJson<{ Swarm: object; Warnings: string[] }>({ host, method: 'GET', path: '/info' });
    expect(info.Swarm).toMatchObject({ Error: LOSS.line, Nodes: 0, Managers: 0, ControlAvailable: true });
    expect(info.Warnings).toEqual(['WARNING: 1 of 3', '  - m2', '  - m3']);
    lost = false;
    expect(await httpJson({ host, method: 'GET', path: '/info' })).toMatchObject({ Warnings: null });
  });
});

describe('a backup', () => {
  it('is streamed, and refused before its first byte', async () => {
    const answer = await httpCall({ host, method: 'GET', path: '/shoal/swarm/backup', headers: word });
    expect([answer.status, await total(answer.body)]).toEqual([200, 4_000_000]);
    expect(asked).toEqual({ passphrase: 'grün', stale: false });
    lost = true;
    expect((await httpCall({ host, method: 'GET', path: '/shoal/swarm/backup' })).status).toBe(503);
    expect((await httpCall({ host, method: 'GET', path: '/shoal/swarm/backup?stale=1' })).status).toBe(200);
    lost = false;
  });

  it('is inspected as it comes in', async () => {
    const body = Buffer.alloc(5_000_000, 7);
    const call = { host, method: 'POST', path: '/shoal/swarm/backup/inspect', headers: word, body };
    expect(await httpJson(call)).toEqual({ bytes: 5_000_000, passphrase: 'grün' });
  });

  it('that is refused in the middle still gets an answer', async () => {
    const path = '/shoal/swarm/restore?advertiseAddr=10.0.0.9&awaitMs=5000';
    const call = { host, method: 'POST', path, body: Buffer.alloc(20_000_000, 7) };
    await expect(httpJson(call)).rejects.toMatchObject({ message: 'the backup is bad after some bytes' });
    expect(asked).toMatchObject({ advertiseAddr: '10.0.0.9', awaitMs: 5_000, passphrase: undefined });
    const tooLong = { ...call, path: '/shoal/swarm/restore?awaitMs=99999999999', body: Buffer.from('x') };
    await expect(httpJson(tooLong)).rejects.toMatchObject({ code: 'InvalidArgument' });
  });

  it('needs a passphrase that is one', async () => {
    const headers = { 'Shoal-Passphrase': '' };
    const call = { host, method: 'GET', path: '/shoal/swarm/backup', headers };
    await expect(httpJson(call)).rejects.toThrow('the passphrase is empty');
  });
});

it('a worker is told where managers are', async () => {
  await httpJson({ host, method: 'POST', path: '/shoal/swarm/rejoin', body: { RemoteAddrs: ['10.0.0.9:2377'] } });
  expect(asked).toEqual(['10.0.0.9:2377']);
  const none = httpJson({ host, method: 'POST', path: '/shoal/swarm/rejoin', body: {} });
  await expect(none).rejects.toThrow('the address of a manager is needed');
});
