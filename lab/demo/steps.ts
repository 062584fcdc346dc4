import { request } from 'node:http';
import { errorMessage, httpJson, systemClock } from '../../base/index.ts';

const POLL_MS = 50;

/** One line of the demo's table. */
export interface StepResult {
  title: string;
  held: boolean;
  /** What happened, in words. */
  what: string;
  seconds: number;
}

/** Polls until `probe` gives a value. @throws Error naming `what` after `timeoutMs`, with the last fault seen */
export async function until<T>(
  what: string,
  timeoutMs: number,
  probe: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  const began = systemClock.monotonic();
  let last = '';
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined) return value;
    } catch (error) {
      last = `: ${errorMessage(error)}`;
    }
    if (systemClock.monotonic() - began > timeoutMs)
      throw new Error(`${what}: not within ${timeoutMs / 1000} s${last}`);
    await systemClock.sleep(POLL_MS);
  }
}

/** Body of an HTTP answer. @throws Error when it is not 200 or takes longer than `timeoutMs` */
export function get(url: string, timeoutMs = 2_000): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, { agent: false, timeout: timeoutMs }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8').trim();
        if (response.statusCode === 200) resolve(text);
        else reject(new Error(`${url}: status ${response.statusCode}`));
      });
    });
    outgoing.on('timeout', () => outgoing.destroy(new Error(`${url}: no answer within ${timeoutMs} ms`)));
    outgoing.on('error', reject);
    outgoing.end();
  });
}

/** Parts of a task that the demo looks at. */
export interface TaskFacts {
  ID: string;
  NodeID?: string;
  DesiredState: string;
  Status: { State: string; Err?: string };
  Spec: { ContainerSpec: { Image: string } };
}

/** Tasks of a service that run and shall run. */
export async function runningTasks(host: string, service: string): Promise<TaskFacts[]> {
  const filters = encodeURIComponent(JSON.stringify({ service: [service], 'desired-state': ['running'] }));
  const tasks = await httpJson<TaskFacts[]>({
    host,
    method: 'GET',
    path: `/tasks?filters=${filters}`,
    timeoutMs: 2_000,
  });
  return tasks.filter((task) => task.Status.State === 'running');
}

/** Requests that go on while something else happens. */
export class Traffic {
  readonly #urls: readonly string[];
  readonly #stop = new AbortController();
  #loops: Promise<void>[] = [];
  answered = 0;
  readonly failures: string[] = [];
  readonly bodies = new Map<string, number>();

  constructor(urls: readonly string[]) {
    this.#urls = urls;
  }

  /** Starts one loop for each URL; each sends a request, waits for its answer and pauses. */
  start(pauseMs: number): void {
    this.#loops = this.#urls.map(async (url) => {
      while (!this.#stop.signal.aborted) {
        try {
          const body = await get(url, 5_000);
          this.answered++;
          const version = body.split(' ')[0] ?? '';
          this.bodies.set(version, (this.bodies.get(version) ?? 0) + 1);
        } catch (error) {
          this.failures.push(errorMessage(error));
        }
        await systemClock.sleep(pauseMs);
      }
    });
  }

  async stop(): Promise<void> {
    this.#stop.abort();
    await Promise.all(this.#loops);
  }
}
