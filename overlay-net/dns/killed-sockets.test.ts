/** The sockets of a resolver are ended by hand (`ss -K`), as any container that may change its network can. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { silentLogger, systemClock, systemRandom, type Logger } from '../../base/index.ts';
import { NetworkTable } from '../../proto/index.ts';
import { createFfiKernel } from '../kernel/ffi-kernel.ts';
import { dropNamespace } from '../kernel/namespace.ts';
import { resolverRules } from '../name-service.ts';
import { ResolverThread } from './resolver-thread.ts';

const root = mkdtempSync(join(tmpdir(), 'shoal-'));
const namespace = join(root, 'box');
const kernel = createFfiKernel();
const source = JSON.stringify(fileURLToPath(new URL('./thread.ts', import.meta.url)));
const boot = `import('tsx/esm/api').then(({ register }) => { register(); return import(${source}); })`;
const reopened: [string, number][] = [];
let worker: Worker | undefined;
let lines = 0;
let thread: ResolverThread;
let port = 0;

const run = (script: string): string =>
  spawnSync('nsenter', [`--net=${namespace}`, 'bash', '-c', script], { encoding: 'utf8', timeout: 5_000 }).stdout;

/** A question for web over TCP, as bytes for printf. */
const QUESTION = '\\0\\035SH\\001\\0\\0\\001\\0\\0\\0\\0\\0\\0\\003web\\0\\0\\001\\0\\001'.replace('035', '025');
const overTcp = (): number =>
  Number(run(`exec 3<>/dev/tcp/127.0.0.11/53 && printf '${QUESTION}' >&3 && timeout 1 head -c 20 <&3 | wc -c`));
const overUdp = (): string => run('busybox nslookup -type=a web 127.0.0.11 2>&1');

beforeAll(async () => {
  await kernel.createNamespace(namespace);
  await kernel.apply(namespace, [{ kind: 'link', name: 'lo', up: true }]);
  const log: Logger = { ...silentLogger, warn: () => void lines++, error: () => void lines++ };
  thread = new ResolverThread({
    ...{ clock: systemClock, random: systemRandom, log },
    onReopened: (id, at) => reopened.push([id, at]),
    start: () => (worker = new Worker(boot, { eval: true })),
  });
  const table = NetworkTable.create({
    endpoints: [{ task_id: 't', task_name: 'web.1.t', service_id: 's', address: '10.1.0.1/24', serving: true }],
    services: [{ service_id: 's', name: 'web' }],
  });
  thread.setZone('o:n', 'net', table);
  const upstream = { servers: [], namespace, hostServers: false };
  port = await thread.open('box', namespace, 0, { zones: ['o:n'], upstream, keepsDotless: false });
  await kernel.nft(namespace, resolverRules(port));
  expect(overTcp()).toBe(20);
}, 20_000);

afterAll(async () => {
  await thread.stop();
  dropNamespace(namespace);
  rmSync(root, { recursive: true, force: true });
});

test.each(['-t', '-u', '-tu'])('ss -K %s: the resolver answers again over both, without much ado', async (which) => {
  const before = lines;
  run(`ss -K -a ${which} src 127.0.0.11`);
  await expect.poll(overTcp, { timeout: 5_000 }).toBe(20);
  await expect.poll(overUdp, { timeout: 5_000 }).toContain('10.1.0.1');
  for (const [, at] of reopened.splice(0)) expect(at).toBe(port);
  const used = worker?.performance.eventLoopUtilization();
  await new Promise((resolve) => setTimeout(resolve, 300));
  expect(worker?.performance.eventLoopUtilization(used).utilization).toBeLessThan(0.5);
  expect(lines - before).toBeLessThan(5);
});
