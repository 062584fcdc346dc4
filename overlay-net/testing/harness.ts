/** Hosts as network namespaces on one switch, each with a HostNetwork in a process of its own. For tests. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NetworkTable, PortConfig_Protocol, PortConfig_PublishMode } from '../../proto/index.ts';
import { buildSync } from 'esbuild';
import type { HostNetwork } from '../index.ts';
import { createFfiKernel } from '../kernel/ffi-kernel.ts';
import { dropNamespace } from '../kernel/namespace.ts';
import { macOf } from '../ip4.ts';

type Methods = Pick<
  HostNetwork,
  | 'start'
  | 'stop'
  | 'destroy'
  | 'createSandbox'
  | 'drainSandbox'
  | 'removeSandbox'
  | 'connectSandbox'
  | 'disconnectSandbox'
  | 'setUnderlay'
  | 'setTable'
  | 'waitForNetwork'
  | 'createLocalNetwork'
  | 'removeLocalNetwork'
  | 'removeTable'
  | 'leaveUnderlay'
  | 'setNetworkKeys'
  | 'wireguardKey'
  | 'reconcile'
  | 'checkNetworks'
>;
type Remote = {
  [K in keyof Methods]: (...args: Parameters<Methods[K]>) => Promise<Awaited<ReturnType<Methods[K]>>>;
} & {
  /** Messages of what was repaired since this was last asked. */
  takeRepairs(): Promise<string[]>;
};

export interface TestHost {
  name: string;
  namespace: string;
  address: string;
  nodeId: string;
  execRoot: string;
  tag: string;
  network: Remote;
  /** Sends a change of a table that was set before. */
  changeTable(delta: NetworkTable): Promise<void>;
  /** How late the host's main thread was since the last look. */
  eventLoopDelay(): Promise<{ p50Ms: number; p99Ms: number; maxMs: number; cpuMs: number }>;
  /** Ends the process, leaving the kernel as it is, and starts another on the same directory. */
  restart(kill: boolean): Promise<void>;
}

export interface Lab {
  root: string;
  hosts: TestHost[];
  /** A namespace on the switch with no Shoal in it. */
  client: string;
  clientAddress: string;
  close(): Promise<void>;
}

const LAB_PREFIX = '192.0.2';

/** Builds a switch, `count` hosts (192.0.2.1 …) and a client (192.0.2.99). */
export async function startLab(count: number, backend = 'ffi'): Promise<Lab> {
  const root = mkdtempSync(join(tmpdir(), 'shoal-'));
  const kernel = createFfiKernel();
  const hub = join(root, 'hub');
  const client = join(root, 'client');
  await kernel.createNamespace(hub);
  await kernel.apply(hub, [{ kind: 'bridge', name: 'br0' }]);
  const plug = async (namespace: string, address: string, port: string): Promise<void> => {
    await kernel.createNamespace(namespace);
    const peer = { name: 'eth0', namespace };
    await kernel.apply(hub, [{ kind: 'veth', name: port, mtu: 1500, master: 'br0', peer }]);
    await kernel.apply(namespace, [
      { kind: 'link', name: 'lo', up: true },
      { kind: 'link', name: 'eth0', up: true },
      { kind: 'addr', dev: 'eth0', address: `${address}/24` },
    ]);
  };
  await plug(client, `${LAB_PREFIX}.99`, 'client');
  const hosts: TestHost[] = [];
  const children: ChildProcess[] = [];
  const programs = bundleHost(basename(root));
  for (let i = 1; i <= count; i++) {
    const namespace = join(root, `host${i}`);
    const address = `${LAB_PREFIX}.${i}`;
    await plug(namespace, address, `host${i}`);
    hosts.push(await startHost(root, programs, i, namespace, address, children, backend));
  }
  const close = async (): Promise<void> => {
    for (const host of hosts) if (existsSync(join(host.execRoot, 'netns'))) await host.network.destroy();
    for (const child of children) child.kill('SIGKILL');
    for (const path of [...hosts.map((host) => host.namespace), client, hub]) dropNamespace(path);
    for (const dir of [root, programs]) rmSync(dir, { recursive: true, force: true });
  };
  return { root, hosts, client, clientAddress: `${LAB_PREFIX}.99`, close };
}

async function startHost(
  root: string,
  programs: string,
  index: number,
  namespace: string,
  address: string,
  children: ChildProcess[],
  backend: string,
): Promise<TestHost> {
  const execRoot = join(root, `exec${index}`);
  const tag = (process.pid % 46_656).toString(36).padStart(3, '0') + index.toString(36);
  const file = join(programs, 'host.mjs');
  let call: (method: string, args: unknown[]) => Promise<unknown> = () => Promise.reject(new Error('not started'));
  let child: ChildProcess | undefined;
  const launch = async (): Promise<void> => {
    const args = [`--net=${namespace}`, process.execPath, file];
    const started = spawn('nsenter', [...args, execRoot, tag, '172.17.0.1/16', backend], {
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
      serialization: 'advanced',
    });
    child = started;
    children.push(started);
    const pending = new Map<number, (reply: { result?: unknown; error?: string }) => void>();
    const ready = new Promise<void>((resolve) => pending.set(0, () => resolve()));
    started.on('message', (reply: { id: number; result?: unknown; error?: string }) => pending.get(reply.id)?.(reply));
    let next = 1;
    call = (method, callArgs) =>
      new Promise((resolve, reject) => {
        const id = next++;
        pending.set(id, ({ result, error }) => (error === undefined ? resolve(result) : reject(new Error(error))));
        started.send({ id, method, args: callArgs });
      });
    await ready;
  };
  await launch();
  const network = new Proxy({} as Remote, {
    get: (_, method) => (method === 'then' ? undefined : (...args: unknown[]) => call(String(method), args)),
  });
  return {
    name: `host${index}`,
    namespace,
    address,
    nodeId: `node${index}`,
    execRoot,
    tag,
    network,
    changeTable: (delta) => call('changeTable', [NetworkTable.encode(delta)]) as Promise<void>,
    eventLoopDelay: () => call('eventLoopDelay', []) as ReturnType<TestHost['eventLoopDelay']>,
    restart: async (kill) => {
      const old = child as ChildProcess;
      const gone = new Promise<void>((resolve) => old.once('exit', () => resolve()));
      if (!kill) await call('stop', []);
      old.kill('SIGKILL');
      await gone;
      await launch();
    },
  };
}

/**
 * Writes the program of a host, and that of its resolvers' thread, as one file each: as sources, each start of either costs
 * half a second of CPU. @returns the directory, to be removed with the lab
 */
function bundleHost(tag: string): string {
  const here = (path: string): string => fileURLToPath(new URL(path, import.meta.url));
  // Where native add-ons, which cannot be bundled, are found.
  const outdir = join(here('../..'), 'node_modules', '.cache', `shoal-test-host-${tag}`);
  buildSync({
    entryPoints: { host: here('./host.ts'), 'dns-thread': here('../dns/thread.ts') },
    ...{ outdir, outExtension: { '.js': '.mjs' }, bundle: true, platform: 'node', format: 'esm', target: 'node20' },
    external: ['koffi', 'level', 'classic-level'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  return outdir;
}

export interface Ran {
  code: number | null;
  out: string;
}

/** Runs a program inside a namespace to its end (at most 10 s). */
export function run(namespace: string, ...command: string[]): Ran {
  const result = spawnSync('nsenter', [`--net=${namespace}`, ...command], { encoding: 'utf8', timeout: 10_000 });
  return { code: result.status, out: `${result.stdout}${result.stderr}` };
}

/** A server that tells each client its name and the client's address; `stop` ends it. */
export async function serve(namespace: string, name: string, port: number, protocol = 'TCP'): Promise<() => void> {
  const listen = `${protocol}4-LISTEN:${port},fork,reuseaddr`;
  const action =
    protocol === 'TCP' ? `SYSTEM:echo ${name} $SOCAT_PEERADDR` : `SYSTEM:read x; echo ${name} $SOCAT_PEERADDR`;
  const child = spawn('nsenter', [`--net=${namespace}`, 'socat', listen, action], { stdio: 'ignore', detached: true });
  const flag = protocol === 'TCP' ? '-ltn' : '-lun';
  for (let i = 0; i < 100; i++) {
    if (run(namespace, 'busybox', 'netstat', flag).out.includes(`:${port} `)) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return () => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch {
      // Already gone.
    }
  };
}

/** What the server at an address says; empty when it cannot be reached within 3 s. */
export function ask(namespace: string, address: string, port: number): string {
  const target = `TCP4:${address}:${port},connect-timeout=3`;
  return run(namespace, 'socat', '-T3', '-u', target, '-').out.trim();
}

export interface TaskFacts {
  id: string;
  host: TestHost;
  address: string;
  serving?: boolean;
}

/** A table of one network with one service. */
export function makeTable(facts: {
  id: string;
  name: string;
  version: number;
  vni: number;
  subnet: string;
  gateway: string;
  ingress?: boolean;
  vip: string;
  hosts: readonly TestHost[];
  tasks: readonly TaskFacts[];
  ports?: { published: number; target: number; udp?: boolean }[];
  service?: string;
  /** `--opt encrypted`: the key of each host, in their order. */
  keys?: readonly Uint8Array[];
}): NetworkTable {
  const service = facts.service ?? 'web';
  return NetworkTable.create({
    network_id: facts.id,
    version: facts.version,
    network: {
      id: facts.id,
      spec: { annotations: { name: facts.name }, ingress: facts.ingress ?? false },
      driver_state: {
        name: 'overlay',
        options: {
          'com.docker.network.driver.overlay.vxlanid_list': String(facts.vni),
          ...(facts.keys === undefined ? {} : { encrypted: '' }),
        },
      },
      ipam: { configs: [{ subnet: facts.subnet, gateway: facts.gateway }] },
    },
    endpoints: facts.tasks.map((task, i) => ({
      task_id: task.id,
      task_name: `${service}.${i + 1}.${task.id}`,
      service_id: 'svc',
      node_id: task.host.nodeId,
      vtep: task.host.address,
      address: `${task.address}/24`,
      mac: macOf(task.address),
      serving: task.serving ?? true,
    })),
    services: [
      {
        service_id: 'svc',
        name: service,
        vip: facts.vip,
        ports: (facts.ports ?? []).map((port) => ({
          protocol: port.udp ? PortConfig_Protocol.UDP : PortConfig_Protocol.TCP,
          target_port: port.target,
          published_port: port.published,
          publish_mode: PortConfig_PublishMode.INGRESS,
        })),
      },
    ],
    peers: facts.hosts.map((host, i) => ({
      node_id: host.nodeId,
      vtep: host.address,
      wireguard_key: facts.keys?.[i] ?? new Uint8Array(),
    })),
  });
}

/** A server that repeats what it is told, line by line. */
export async function serveEcho(namespace: string, port: number): Promise<() => void> {
  const args = [`--net=${namespace}`, 'socat', `TCP4-LISTEN:${port},fork,reuseaddr`, 'EXEC:cat'];
  const child = spawn('nsenter', args, { stdio: 'ignore', detached: true });
  for (let i = 0; i < 100; i++) {
    if (run(namespace, 'busybox', 'netstat', '-ltn').out.includes(`:${port} `)) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return () => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch {
      // Already gone.
    }
  };
}

export interface EchoClient {
  /** Sends a word and returns whether it came back within 3 s. */
  echoes(word: string): Promise<boolean>;
  close(): void;
}

/** A connection to an echo server that stays open. */
export function connectEcho(namespace: string, address: string, port: number): EchoClient {
  const target = address.includes(':') ? `TCP6:[${address}]` : `TCP4:${address}`;
  const args = [`--net=${namespace}`, 'socat', '-', `${target}:${port},connect-timeout=3`];
  const child = spawn('nsenter', args, { stdio: ['pipe', 'pipe', 'ignore'] });
  let heard = '';
  child.stdout.on('data', (data: Buffer) => (heard += data.toString()));
  child.stdin.on('error', () => undefined);
  return {
    async echoes(word) {
      child.stdin.write(`${word}\n`);
      for (let i = 0; i < 150; i++) {
        if (heard.includes(`${word}\n`)) return true;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      return false;
    },
    close: () => child.kill('SIGKILL'),
  };
}
