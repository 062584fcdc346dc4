import { isNotFound, segment, type Client, type Query } from './client.ts';
import { exactly, NO_TRUNC, option, type CommandGroup } from './command.ts';
import type { Context, Output } from './context.ts';
import { frames } from './frames.ts';
import type { Flags } from './options.ts';
import type { Service, Task } from './objects.ts';
import { NameResolver } from './resolve.ts';
import { timestamp } from './timestamp.ts';
import { shortId } from './units.ts';
import { cut } from './words.ts';

/** Keys of the words that say where a line comes from. */
const NODE = 'com.docker.swarm.node.id';
const SERVICE = 'com.docker.swarm.service.id';
const TASK = 'com.docker.swarm.task.id';

/** Gives each line the name of its task and node. */
class LineNames {
  readonly #client: Client;
  readonly #flags: Flags;
  readonly #names: NameResolver;
  readonly #width: number;
  readonly #known = new Map<string, Promise<string>>();

  constructor(client: Client, flags: Flags, width: number) {
    this.#client = client;
    this.#flags = flags;
    this.#names = new NameResolver(client, flags.bool('no-resolve'));
    this.#width = width;
  }

  of(node: string, service: string, task: string): Promise<string> {
    const key = `${node} ${service} ${task}`;
    const known = this.#known.get(key);
    if (known !== undefined) return known;
    const asked = this.#ask(node, service, task);
    this.#known.set(key, asked);
    return asked;
  }

  async #ask(node: string, service: string, taskId: string): Promise<string> {
    const nodeName = await this.#names.node(node);
    const serviceName = await this.#names.service(service);
    const task = await this.#client.get<Task>(`/tasks/${segment(taskId)}`);
    const slot = String(task.Slot ?? 0);
    const id = this.#flags.bool('no-trunc') ? task.ID : shortId(task.ID);
    const name = `${serviceName}.${slot}${this.#flags.bool('no-task-ids') ? '' : `.${id}`}`;
    return `${name}@${nodeName}${' '.repeat(Math.max(0, this.#width - slot.length))}`;
  }
}

/** One line with its origin in front. @throws Error when the line does not say where it comes from */
async function namedLine(flags: Flags, names: LineNames, text: string): Promise<string> {
  const [time, afterTime] = flags.bool('timestamps') ? cut(text, ' ') : ['', text];
  const [origin, message] = cut(afterTime ?? '', ' ');
  if (message === undefined) throw new Error(`invalid context in log message: ${text}`);
  const details = new Map(
    origin.split(',').map((pair) => {
      const [key, value] = cut(pair, '=');
      return [decodeURIComponent(key), decodeURIComponent((value ?? '').replaceAll('+', ' '))];
    }),
  );
  const take = (key: string, what: string): string => {
    const value = details.get(key);
    if (value === undefined) throw new Error(`missing ${what} id in details: ${origin}`);
    details.delete(key);
    return value;
  };
  const name = await names.of(take(NODE, 'node'), take(SERVICE, 'service'), take(TASK, 'task'));
  const rest = [...details].map(([key, value]) => `${key}=${value}`).toSorted();
  const shown = flags.bool('details') ? `${rest.join(',')} ` : '';
  return `${time === '' ? '' : `${time} `}${name}    | ${shown}${message}`;
}

interface Source {
  path: string;
  tty: boolean;
  width: number;
}

async function sourceOf(client: Client, target: string): Promise<Source> {
  const width = (count: number): number => String(count).length;
  try {
    const service = await client.get<Service>(`/services/${segment(target)}`, { insertDefaults: 'false' });
    return {
      path: `/services/${segment(target)}/logs`,
      tty: service.Spec.TaskTemplate.ContainerSpec.TTY === true,
      width: width(service.Spec.Mode.Replicated?.Replicas ?? 0),
    };
  } catch (error) {
    if (!isNotFound(error)) throw error;
  }
  try {
    const task = await client.get<Task>(`/tasks/${segment(target)}`);
    return {
      path: `/tasks/${segment(target)}/logs`,
      tty: task.Spec.ContainerSpec?.TTY === true,
      width: width(task.Slot ?? 0),
    };
  } catch (error) {
    if (isNotFound(error)) throw new Error(`no such task or service: ${target}`, { cause: error });
    throw error;
  }
}

async function logs(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const target = words[0] ?? '';
  const raw = flags.bool('raw');
  const source = await sourceOf(client, target);
  if (source.tty && !raw) throw new Error('tty service logs only supported with --raw');
  const since = flags.string('since');
  const query: Query = {
    stdout: true,
    stderr: true,
    since: since === '' ? undefined : timestamp(since, context.clock.now()),
    timestamps: flags.bool('timestamps'),
    follow: flags.bool('follow'),
    tail: flags.string('tail'),
    details: flags.bool('details') || !raw,
  };
  const body = await client.stream({ method: 'GET', path: source.path, query });
  if (source.tty) {
    for await (const chunk of body as AsyncIterable<Uint8Array>) context.out.write(chunk);
    return;
  }
  const names = new LineNames(client, flags, source.width);
  for await (const { stream, data } of frames(body)) {
    const output: Output = stream === 'stderr' ? context.err : context.out;
    output.write(raw ? data : await namedLine(flags, names, data.toString('utf8')));
  }
}

export const serviceLogCommands: CommandGroup = {
  logs: {
    usage: 'SERVICE|TASK',
    arguments: exactly(1),
    options: [
      option('details', 'bool', 'Show what the log driver knows besides'),
      option('follow,f', 'bool', 'Go on as lines are written'),
      option('no-resolve', 'bool', 'Show ids in the place of names'),
      option('no-task-ids', 'bool', 'Leave task ids out'),
      NO_TRUNC,
      option('raw', 'bool', 'Lines alone, without where they come from'),
      option('since', 'string', 'Lines since a time (2013-01-02T13:23:37Z) or a span (42m)'),
      option('tail,n', 'string', 'How many lines from the end', { initial: 'all', shown: '"all"' }),
      option('timestamps,t', 'bool', 'Show the time of each line'),
    ],
    run: logs,
  },
};
