import { errorMessage } from '../base/index.ts';
import { FORMAT, NO_TRUNC, option, atLeast, type CommandGroup } from './command.ts';
import type { Context } from './context.ts';
import { jsonMessages } from './json-stream.ts';
import type { Flags } from './options.ts';
import { containerPath } from './parallel.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { binarySize, humanSize, shortId } from './units.ts';

/** Time between two pictures, ms. */
const PICTURE_MS = 500;
/** A container that tells nothing for so long is shown without figures, ms. */
const SILENCE_MS = 2000;
/** A single sample takes the daemon about a second of watching; so long it may take, ms. */
const SINGLE_MS = 5000;
const UNKNOWN = '--';

/** Parts of `GET /containers/{id}/stats` that are shown. */
export interface StatsSample {
  id?: string;
  name?: string;
  cpu_stats: CpuSample;
  precpu_stats: CpuSample;
  memory_stats: { usage?: number; limit?: number; stats?: Record<string, number> };
  blkio_stats: { io_service_bytes_recursive?: { op: string; value: number }[] | null };
  pids_stats?: { current?: number };
  networks?: Record<string, { rx_bytes: number; tx_bytes: number }>;
}

interface CpuSample {
  cpu_usage: { total_usage: number; percpu_usage?: number[] | null };
  system_cpu_usage?: number;
  online_cpus?: number;
}

/** Use of the CPUs between two samples, per cent of one. */
function cpuPercent({ cpu_stats: now, precpu_stats: before }: StatsSample): number {
  const own = now.cpu_usage.total_usage - before.cpu_usage.total_usage;
  const all = (now.system_cpu_usage ?? 0) - (before.system_cpu_usage ?? 0);
  const cpus = now.online_cpus || (now.cpu_usage.percpu_usage?.length ?? 0);
  return all > 0 && own > 0 ? (own / all) * cpus * 100 : 0;
}

/** Memory without the cache of files that nobody uses (cgroup v1 and v2 name it otherwise). */
function memoryBytes({ usage = 0, stats = {} }: StatsSample['memory_stats']): number {
  const cache = stats['total_inactive_file'] ?? stats['inactive_file'] ?? 0;
  return cache < usage ? usage - cache : usage;
}

function sum<T>(list: readonly T[], value: (one: T) => number): number {
  return list.reduce((total, one) => total + value(one), 0);
}

const percent = (value: number): string => `${value.toFixed(2)}%`;
const pair = (left: number, right: number): string => `${humanSize(left, 3)} / ${humanSize(right, 3)}`;

/** A row of the table; without a sample all figures are unknown. */
export function statsRow(container: string, sample: StatsSample | undefined, valid: boolean, truncate: boolean): Row {
  const id = sample?.id ?? '';
  const known = sample !== undefined && valid;
  const memory = known ? memoryBytes(sample.memory_stats) : 0;
  const limit = sample?.memory_stats.limit ?? 0;
  const traffic = Object.values(sample?.networks ?? {});
  const blocks = sample?.blkio_stats.io_service_bytes_recursive ?? [];
  const moved = (letter: string): number =>
    sum(blocks, ({ op, value }) => (op.toLowerCase().startsWith(letter) ? value : 0));
  const figure = (text: () => string, unknown = UNKNOWN): string => (known ? text() : unknown);
  return new Row('*container.statsContext', {
    Container: container,
    Name: (sample?.name ?? '').length > 1 ? (sample?.name ?? '').slice(1) : UNKNOWN,
    ID: truncate ? shortId(id) : id,
    CPUPerc: figure(() => percent(sample === undefined ? 0 : cpuPercent(sample))),
    MemUsage: figure(() => `${binarySize(memory)} / ${binarySize(limit)}`, '-- / --'),
    MemPerc: figure(() => percent(limit === 0 ? 0 : (memory / limit) * 100)),
    NetIO: figure(() =>
      pair(
        sum(traffic, (one) => one.rx_bytes),
        sum(traffic, (one) => one.tx_bytes),
      ),
    ),
    BlockIO: figure(() => pair(moved('r'), moved('w'))),
    PIDs: figure(() => String(sample?.pids_stats?.current ?? 0)),
  });
}

const COLUMNS = '{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}';
const HEADERS = headers(
  'Container',
  'Name',
  'ID=CONTAINER ID',
  'CPUPerc=CPU %',
  'MemUsage=MEM USAGE / LIMIT',
  'MemPerc=MEM %',
  'NetIO=NET I/O',
  'BlockIO=BLOCK I/O',
  'PIDs',
);

/** The stream of one container's figures. */
class Watched {
  readonly container: string;
  /** Settled once there is something to show, or a reason why there is not. */
  readonly first: Promise<void>;
  error: string | undefined;
  readonly #stop = new AbortController();
  #sample: StatsSample | undefined;
  #heardAtMs = 0;

  constructor(context: Context, container: string, isStream: boolean) {
    this.container = container;
    let settle = (): void => undefined;
    this.first = new Promise((resolve) => (settle = resolve));
    void this.#follow(context, isStream, settle).catch((error: unknown) => {
      this.error = errorMessage(error);
      settle();
    });
    void context.clock.sleep(isStream ? SILENCE_MS : SINGLE_MS, this.#stop.signal).then(settle, settle);
  }

  async #follow(context: Context, isStream: boolean, settle: () => void): Promise<void> {
    const path = containerPath(this.container, 'stats');
    const body = await context.client.stream({
      ...{ method: 'GET', path, query: { stream: isStream ? '1' : '0' }, signal: this.#stop.signal },
    });
    for await (const sample of jsonMessages<StatsSample>(body)) {
      this.#sample = sample;
      this.#heardAtMs = context.clock.monotonic();
      settle();
    }
    this.#heardAtMs = 0;
    settle();
  }

  row(nowMs: number, isStream: boolean, truncate: boolean): Row {
    const fresh = isStream ? this.#heardAtMs > 0 && nowMs - this.#heardAtMs < SILENCE_MS * 2 : true;
    return statsRow(this.container, this.#sample, fresh, truncate);
  }

  stop(): void {
    this.#stop.abort();
  }
}

/** Containers of the whole engine: those that are there, and those that come and go. */
async function watchAll(context: Context, all: boolean, isStream: boolean, board: Map<string, Watched>): Promise<void> {
  const { client } = context;
  const add = (id: string): void => {
    const name = id.slice(0, 12);
    if (!board.has(name)) board.set(name, new Watched(context, name, isStream));
  };
  if (isStream) {
    const body = await client.stream({ method: 'GET', path: '/events', query: { filters: { type: ['container'] } } });
    const follow = async (): Promise<void> => {
      for await (const { Action, Actor } of jsonMessages<{ Action: string; Actor: { ID: string } }>(body)) {
        const name = Actor.ID.slice(0, 12);
        if (Action === 'start' || (Action === 'create' && all)) add(Actor.ID);
        const gone = Action === 'destroy' || (Action === 'die' && !all);
        if (gone) {
          board.get(name)?.stop();
          board.delete(name);
        }
      }
    };
    follow().catch(() => undefined);
  }
  const present = await client.get<{ Id: string }[]>('/containers/json', { all });
  for (const { Id } of present) add(Id);
}

async function stats(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { out, clock } = context;
  const isStream = !flags.bool('no-stream');
  const board = new Map<string, Watched>();
  if (words.length === 0) await watchAll(context, flags.bool('all'), isStream, board);
  else for (const word of words) if (!board.has(word)) board.set(word, new Watched(context, word, isStream));
  await Promise.all([...board.values()].map((one) => one.first));
  const errors = words.length === 0 ? [] : [...board.values()].flatMap((one) => one.error ?? []);
  if (errors.length > 0) {
    for (const one of board.values()) one.stop();
    throw new Error(errors.join('\n'));
  }
  const format = flags.string('format');
  for (;;) {
    const now = clock.monotonic();
    const rows = [...board.values()].map((one) => one.row(now, isStream, !flags.bool('no-trunc')));
    const text = renderListing({ rows, columns: COLUMNS, headers: HEADERS, format });
    // A picture is drawn over the last one, each line to its end.
    out.write(isStream ? `\u001b[H${text.split('\n').join(' \u001b[K\n')}\u001b[J` : text);
    if (!isStream) break;
    await out.drained?.();
    await clock.sleep(PICTURE_MS);
  }
  for (const one of board.values()) one.stop();
}

export const containerStatsCommands: CommandGroup = {
  stats: {
    usage: '[CONTAINER...]',
    arguments: atLeast(0),
    options: [
      option('all,a', 'bool', 'Show all containers (default shows just running)'),
      FORMAT,
      option('no-stream', 'bool', 'Disable streaming stats and only pull the first result'),
      NO_TRUNC,
    ],
    run: stats,
  },
};
