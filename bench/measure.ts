import { createReadStream } from 'node:fs';
import { httpCall, httpJson, must, readText, ShoalError, systemClock } from '../base/index.ts';
import { IMAGE_NAME } from './image.ts';
import { hostMemory, type HostMemory, type Side } from './hosts.ts';

/** Interval of the look at the tasks, ms; the same for both sides. */
const POLL_MS = 50;
const POLL_ONE_MS = 10;
/** After this time a service that is not up is given up, ms. */
const START_TIMEOUT_MS = 120_000;
const REMOVE_TIMEOUT_MS = 180_000;
/** Ends at once on SIGTERM, so that removal is quick. */
const COMMAND = ['/bin/sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];

/** One start of a service, from the request until all its tasks ran. */
export interface StartRun {
  replicas: number;
  seconds: number;
  containersPerSecond: number;
  removeSeconds: number;
  /** Tasks beyond those wanted, which failed or were rejected meanwhile. */
  failedTasks: number;
}

interface ApiTask {
  Status: { State: string; Err?: string };
}

/** Puts the same image (same id) on every host; returns its id. */
export async function placeImage(side: Side, archive: string): Promise<string> {
  for (const host of side.hosts) await load(host.docker_host, archive);
  const ids = new Set<string>();
  for (const host of side.hosts) {
    const image = await httpJson<{ Id: string }>({
      host: host.docker_host,
      method: 'GET',
      path: `/images/${IMAGE_NAME}/json`,
    });
    ids.add(image.Id);
  }
  if (ids.size !== 1) throw new ShoalError('Internal', `the hosts of ${side.name} do not have the same image`);
  return must([...ids][0], 'image id');
}

async function load(host: string, archive: string): Promise<void> {
  const path = '/images/load?quiet=1';
  const headers = { 'Content-Type': 'application/x-tar' };
  const answer = await httpCall({ host, method: 'POST', path, headers, body: createReadStream(archive) });
  const text = await readText(answer.body);
  // Errors after the headers come in the stream of messages.
  if (answer.status >= 400 || text.includes('"error"')) throw new ShoalError('Internal', `${path}: ${text.trim()}`);
}

/** Starts a service of `replicas`, waits until all run, measures, and removes it again. */
export async function measureStart(
  side: Side,
  image: string,
  replicas: number,
  signal: AbortSignal,
): Promise<{ run: StartRun; memory: HostMemory[] }> {
  const host = must(side.hosts[0], 'first host').docker_host;
  const spec = {
    Name: `bench-${replicas}`,
    TaskTemplate: {
      ContainerSpec: { Image: image, Command: COMMAND, StopGracePeriod: 5_000_000_000 },
      RestartPolicy: { Condition: 'any' },
    },
    Mode: { Replicated: { Replicas: replicas } },
  };
  const began = systemClock.monotonic();
  const { ID: id } = await httpJson<{ ID: string }>({ host, method: 'POST', path: '/services/create', body: spec });
  await untilRunning(host, id, replicas, signal);
  const seconds = (systemClock.monotonic() - began) / 1000;
  const memory = side.hosts.map(({ name }) => hostMemory(side.lab, name));
  const failedTasks = (await tasksOf(host, id, false)).length - replicas;
  const removing = systemClock.monotonic();
  await httpJson({ host, method: 'DELETE', path: `/services/${id}` });
  await untilGone(side, signal);
  const removeSeconds = (systemClock.monotonic() - removing) / 1000;
  const run = { replicas, seconds, containersPerSecond: replicas / seconds, removeSeconds, failedTasks };
  return { run, memory };
}

function tasksOf(host: string, service: string, running: boolean): Promise<ApiTask[]> {
  const filters = { service: [service], ...(running ? { 'desired-state': ['running'] } : {}) };
  const path = `/tasks?filters=${encodeURIComponent(JSON.stringify(filters))}`;
  return httpJson<ApiTask[]>({ host, method: 'GET', path });
}

async function untilRunning(host: string, service: string, replicas: number, signal: AbortSignal): Promise<void> {
  const began = systemClock.monotonic();
  for (;;) {
    const tasks = await tasksOf(host, service, true);
    const running = tasks.filter((task) => task.Status.State === 'running').length;
    if (running >= replicas) return;
    if (systemClock.monotonic() - began > START_TIMEOUT_MS) {
      const errors = new Set((await tasksOf(host, service, false)).map((task) => task.Status.Err ?? ''));
      throw new ShoalError('DeadlineExceeded', `${running} of ${replicas} tasks run; ${[...errors].join('; ')}`);
    }
    await systemClock.sleep(replicas === 1 ? POLL_ONE_MS : POLL_MS, signal);
  }
}

/** Until no host has a container left. */
async function untilGone(side: Side, signal: AbortSignal): Promise<void> {
  const began = systemClock.monotonic();
  for (const { docker_host: host, name } of side.hosts) {
    for (;;) {
      const left = await httpJson<unknown[]>({ host, method: 'GET', path: '/containers/json?all=1' });
      if (left.length === 0) break;
      if (systemClock.monotonic() - began > REMOVE_TIMEOUT_MS) {
        throw new ShoalError('DeadlineExceeded', `${left.length} containers on ${name} of ${side.name} do not go`);
      }
      await systemClock.sleep(4 * POLL_MS, signal);
    }
  }
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const low = sorted[Math.ceil(middle) - 1] ?? 0;
  const high = sorted[Math.floor(middle)] ?? 0;
  return (low + high) / 2;
}
