import { spawn } from 'node:child_process';
import { httpCall, httpJson, readText, ShoalError, systemClock } from '../../base/index.ts';
import type { MemoryNow } from '../hosts.ts';
import { many, memoryOf, removeAll, start, wait, type EngineHost } from './host.ts';

const SLEEP = ['sleep', '1000000'];
const MB = 1024 * 1024;
const LOG_MB = 100;
/** Busy loops would measure the shells: each of the chatty containers writes ten lines ten times a second. */
const CHATTY =
  'while :; do for i in 1 2 3 4 5 6 7 8 9 10; do echo "a line of some eighty bytes, as a program writes that says what it does $i"; done; sleep 0.1; done';
const SETTLE_MS = 3_000;
const SAMPLE_MS = 1_000;

/** `docker run --rm IMAGE true` with the stock client, from its start to its exit, ms. */
export async function runOnce({ host, image }: EngineHost): Promise<number> {
  const began = systemClock.monotonic();
  const args = ['-H', host, 'run', '--rm', image, 'true'];
  const code = await new Promise<number | null>((resolve, reject) => {
    const child = spawn('docker', args, { stdio: ['ignore', 'ignore', 'inherit'] });
    child.on('error', reject);
    child.on('exit', resolve);
  });
  if (code !== 0) throw new ShoalError('Internal', `docker ${args.join(' ')} exits with ${code}`);
  return systemClock.monotonic() - began;
}

export interface Burst {
  seconds: number;
  perSecond: number;
  removeSeconds: number;
}

/** `count` detached containers made and started by `clients` clients, then all removed by force. */
export async function burst(host: EngineHost, count: number, clients: number): Promise<Burst> {
  const began = systemClock.monotonic();
  await many(clients, Array.from({ length: count }), () => start(host, SLEEP));
  const seconds = (systemClock.monotonic() - began) / 1000;
  const removing = systemClock.monotonic();
  const removed = await removeAll(host);
  if (removed !== count) throw new ShoalError('Internal', `${removed} of ${count} containers were there`);
  return { seconds, perSecond: count / seconds, removeSeconds: (systemClock.monotonic() - removing) / 1000 };
}

export interface Crowd {
  containers: number;
  startSeconds: number;
  removeSeconds: number;
  /** Of the host's processes before and with the containers, kB. */
  before: MemoryNow;
  with: MemoryNow;
  /** What the engine's own processes take more with each container, kB. */
  engineKbEach: number;
  /** The list of all containers, ms. */
  listMs: number;
}

/** Many containers that sleep: memory, and how the daemon answers with them. */
export async function crowd(host: EngineHost, count: number, clients: number): Promise<Crowd> {
  await systemClock.sleep(SETTLE_MS);
  const before = memoryOf(host);
  const began = systemClock.monotonic();
  await many(clients, Array.from({ length: count }), () => start(host, SLEEP));
  const startSeconds = (systemClock.monotonic() - began) / 1000;
  await systemClock.sleep(SETTLE_MS);
  const after = memoryOf(host);
  const asking = systemClock.monotonic();
  const list = await httpJson<unknown[]>({ host: host.host, method: 'GET', path: '/containers/json' });
  const listMs = systemClock.monotonic() - asking;
  if (list.length !== count) throw new ShoalError('Internal', `${list.length} of ${count} containers run`);
  const removing = systemClock.monotonic();
  await removeAll(host);
  const own = ({ daemons, monitors }: MemoryNow): number => daemons + monitors;
  return {
    ...{ containers: count, startSeconds, before, with: after, listMs },
    removeSeconds: (systemClock.monotonic() - removing) / 1000,
    engineKbEach: (own(after) - own(before)) / count,
  };
}

/** Speed of a container that writes 100 MB in lines of 80 bytes, to its log or to a file of its own, MB/s. */
export async function writeSpeed(host: EngineHost, to: 'log' | 'file'): Promise<number> {
  const line = 'x'.repeat(79);
  const script = `yes ${line} | head -c ${LOG_MB * MB}${to === 'file' ? ' > /out' : ''}`;
  const began = systemClock.monotonic();
  const id = await start(host, ['sh', '-c', script]);
  const code = await wait(host.host, id);
  const seconds = (systemClock.monotonic() - began) / 1000;
  if (code !== 0) throw new ShoalError('Internal', `the container that writes exits with ${code}`);
  await removeAll(host);
  return LOG_MB / seconds;
}

/** The longest turns of Shoal's event loop in each second while containers write, ms. */
export async function chatty(host: EngineHost, containers: number, seconds: number): Promise<number[]> {
  for (let i = 0; i < containers; i++) await start(host, ['sh', '-c', CHATTY]);
  await longestTurn(host);
  const turns: number[] = [];
  for (let second = 0; second < seconds; second++) {
    await systemClock.sleep(SAMPLE_MS);
    turns.push(await longestTurn(host));
  }
  await removeAll(host);
  return turns;
}

/** Since it was asked the last time, ms. */
async function longestTurn({ host }: EngineHost): Promise<number> {
  const answer = await httpCall({ host, method: 'GET', path: '/metrics' });
  const text = await readText(answer.body);
  const value = /^shoal_event_loop_delay_max_seconds (\S+)$/m.exec(text)?.[1];
  if (value === undefined) throw new ShoalError('Internal', 'the daemon does not measure its event loop');
  return Number(value) * 1000;
}
