/**
 * Name service of one host under load. A HostNetwork (what the daemon has for networks) in a process of its own holds
 * containers on an overlay; meanwhile it does its other work: tables of 1,000 endpoints of which 200 change ten times a
 * second, and containers that come and go. The load comes from another process.
 */
import { spawn } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { must } from '../../base/index.ts';
import { NetworkTable } from '../../proto/index.ts';
import { makeTable, startLab, type TestHost } from '../../overlay-net/testing/harness.ts';

const HERE = dirname(fileURLToPath(import.meta.url));
const SANDBOXES = 16;
const SOCKETS_PER_SANDBOX = 4;
const ENDPOINTS = 1000;
const TABLE_MS = 100;
const CHURN_MS = 500;
/** Versions after which the table is as it was. */
const PERIOD = 10;
const NETWORK = 'n'.repeat(25);
const SERVICES = 'web,tasks.web,web.net';

/** Questions asked per second, whether the resolver keeps up or not, and for how long. */
const RATE = 30_000;
const SECONDS = 5;

interface Load {
  sent: number;
  answered: number;
  wrong: number;
  perSecond: number;
  p50Ms: number;
  p99Ms: number;
  maxMs: number;
}

const addressOf = (i: number): string => `10.9.${1 + (i >> 8)}.${i & 255}`;

function table(host: TestHost, version: number): ReturnType<typeof makeTable> {
  const tasks = Array.from({ length: ENDPOINTS }, (_, i) => {
    // A tenth does not serve: another one in each version.
    const serving = (i + version) % PERIOD !== 0 || i < SANDBOXES;
    return { id: `task${i}`, host, address: addressOf(i), serving };
  });
  const facts = { id: NETWORK, name: 'net', version, vni: 5009, subnet: '10.9.0.0/16', gateway: '10.9.0.1' };
  const made = makeTable({ ...facts, vip: '10.9.0.2', hosts: [host], tasks });
  // One service of a few tasks, as most are, and another with the rest.
  made.endpoints.forEach((endpoint, i) => {
    if (i >= SANDBOXES) endpoint.service_id = 'other';
    endpoint.address = `${addressOf(i)}/16`;
  });
  const web = must(made.services[0], 'a service');
  made.services.push({ ...web, service_id: 'other', name: 'other', vip: '10.9.0.3' });
  return made;
}

async function container(host: TestHost, id: string, address: string): Promise<string> {
  const endpoints = [{ networkId: NETWORK, address: `${address}/16`, mac: '', aliases: [] }];
  const spec = { id, taskId: id, names: [`c-${id.slice(0, 8)}`], endpoints, ports: [], dns: [] };
  return (await host.network.createSandbox(spec)).namespacePath;
}

function load(rate: number, seconds: number, namespaces: string[]): Promise<Load> {
  const args = ['--import', 'tsx', join(HERE, 'dns-load.ts'), String(rate), String(seconds)];
  const child = spawn(process.execPath, [...args, String(SOCKETS_PER_SANDBOX), SERVICES, ...namespaces], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let out = '';
  child.stdout.on('data', (data: Buffer) => (out += data.toString()));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', () => resolve(JSON.parse(out) as Load));
  });
}

async function otherWork(host: TestHost, stop: () => boolean): Promise<void> {
  let version = 10;
  let id = 0;
  await host.network.setTable(table(host, version));
  // Made beforehand: making them is the managers' work.
  const tables = Array.from({ length: PERIOD }, (_, i) => table(host, version + i).endpoints);
  const change = (): Promise<void> => {
    const [before, after] = [tables[version % PERIOD], tables[(version + 1) % PERIOD]];
    const endpoints = (after ?? []).filter((one, i) => one.serving !== before?.[i]?.serving);
    const delta = { network_id: NETWORK, base_version: version, version: ++version, endpoints };
    return host.changeTable(NetworkTable.create(delta));
  };
  const every = async (ms: number, work: () => Promise<unknown>): Promise<void> => {
    while (!stop()) {
      await work();
      await new Promise((resolve) => setTimeout(resolve, ms));
    }
  };
  await Promise.all([
    every(TABLE_MS, change),
    every(CHURN_MS, async () => {
      const name = (++id).toString(16).padStart(8, '0').repeat(8);
      await container(host, name, addressOf(ENDPOINTS + (id % 100)));
      await host.network.removeSandbox(name);
    }),
  ]);
}

/** One load, and how late the timers of the measured process's main thread were meanwhile. */
export interface DnsRun extends Load {
  eventLoop: { p50Ms: number; p99Ms: number; maxMs: number; cpuMs: number };
}

export interface DnsResult {
  settings: Record<string, number>;
  alone: DnsRun;
  withOtherWork: DnsRun;
}

/** Measures the name service of one host, alone and with other work. */
export async function dnsPart(signal: AbortSignal): Promise<DnsResult> {
  const lab = await startLab(1);
  try {
    const host = must(lab.hosts[0], 'a host');
    await host.network.start();
    await host.network.setUnderlay({ vtep: host.address, dataPathPort: 4789, nodeId: host.nodeId });
    await host.network.setTable(table(host, 1));
    const namespaces: string[] = [];
    for (let i = 0; i < SANDBOXES; i++) {
      namespaces.push(await container(host, i.toString(16).repeat(64).slice(0, 64), addressOf(i)));
    }
    // The first answers find caches cold.
    await load(2000, 1, namespaces);
    const measure = async (busy: boolean): Promise<DnsRun> => {
      signal.throwIfAborted();
      await host.eventLoopDelay();
      let over = false;
      const work = busy ? otherWork(host, () => over) : Promise.resolve();
      const got = await load(RATE, SECONDS, namespaces).finally(() => (over = true));
      await work;
      return { ...got, eventLoop: await host.eventLoopDelay() };
    };
    const settings = { rate: RATE, seconds: SECONDS, sandboxes: SANDBOXES, socketsPerSandbox: SOCKETS_PER_SANDBOX };
    const alone = await measure(false);
    return { settings: { ...settings, endpoints: ENDPOINTS }, alone, withOtherWork: await measure(true) };
  } finally {
    await lab.close();
  }
}
