import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { httpCall, readText, silentLogger } from '../base/index.ts';
import type { LocalNetworkFacts, Ports, SwarmState } from './ports.ts';
import { ApiServer } from './server.ts';

const dir = mkdtempSync(join(tmpdir(), 'shoal-networks-'));
const host = `unix://${join(dir, 'api.sock')}`;
const local = (name: string): LocalNetworkFacts => ({
  ...{ id: name.padEnd(64, '0'), name, driver: 'bridge', createdMs: 0, subnet: '10.1.0.0/16', gateway: '10.1.0.1' },
  ...{ subnet6: '', gateway6: '', ipRange: '', ipRange6: '', auxAddresses: {} },
  ...{ attachable: false, internal: false, labels: {}, options: {} },
});
let localNodeState: SwarmState['localNodeState'] = 'inactive';

const ports = {
  system: { version: '0.1.0' },
  swarm: { state: () => ({ localNodeState, controlAvailable: false, nodeId: '', remoteManagers: [] }) },
  engine: {
    containers: { list: () => [] },
    networks: { localNetworks: () => ['bridge', 'docker_gwbridge'].map(local), overlayNetworks: () => [] },
  },
} as unknown as Ports;
const server = new ApiServer({ ports, log: silentLogger });

beforeAll(() => server.listen(host));
afterAll(async () => {
  await server.close();
  rmSync(dir, { recursive: true, force: true });
});

async function names(): Promise<string[]> {
  const answer = await httpCall({ host, method: 'GET', path: '/networks' });
  return (JSON.parse(await readText(answer.body)) as { Name: string }[]).map(({ Name }) => Name);
}

describe('networks of this host', () => {
  it('list the way outward of overlays only on a node of a swarm, as Docker makes it there', async () => {
    expect(await names()).toEqual(['bridge']);
    localNodeState = 'active';
    expect(await names()).toEqual(['bridge', 'docker_gwbridge']);
    localNodeState = 'inactive';
  });

  it('may not be made under a name that every host has', async () => {
    const body = { Name: 'bridge' };
    const answer = await httpCall({ host, method: 'POST', path: '/networks/create', body });
    const words = 'operation is not permitted on predefined bridge network ';
    expect([answer.status, JSON.parse(await readText(answer.body))]).toEqual([403, { message: words }]);
  });
});
