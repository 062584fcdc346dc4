import { segment } from './client.ts';
import { atLeast, ExitError, exactly, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { DrainWatch, type DrainHold } from './drain-watch.ts';
import type { Flags } from './options.ts';
import type { Node, Task } from './objects.ts';
import { NameResolver } from './resolve.ts';
import { ownNode } from './service.ts';
import { formatDuration, parseDuration } from './units.ts';

const POLL_MS = 300;
const TIMEOUT_DEFAULT_MS = 600_000;

async function setAvailability(context: Context, name: string, availability: string): Promise<Node> {
  const { client } = context;
  const node = await client.get<Node>(`/nodes/${segment(await ownNode(client, name))}`);
  if (node.Spec.Availability !== availability) {
    node.Spec.Availability = availability;
    await client.post(`/nodes/${node.ID}/update`, node.Spec, { version: node.Version.Index });
  }
  return node;
}

function summary(name: string, holds: readonly DrainHold[]): string {
  const here = holds.filter((hold) => hold.where === 'here').length;
  const elsewhere = holds.length - here;
  const tasks = `${here} ${here === 1 ? 'task' : 'tasks'} still there`;
  return `${name}: ${tasks}, ${elsewhere} ${elsewhere === 1 ? 'replacement' : 'replacements'} not running yet`;
}

async function describe(hold: DrainHold, names: NameResolver): Promise<string> {
  const { task, where, why } = hold;
  const service = await names.service(task.ServiceID);
  const name = task.ServiceID === '' ? `task ${task.ID}` : `${service}.${task.Slot ?? task.NodeID}`;
  if (where === 'here') {
    const told = task.DesiredState === 'running' ? 'waits for its replacement' : 'was told to stop';
    return `${name} is ${task.Status.State} on the node and ${told}${why === '' ? '' : `: ${why}`}`;
  }
  return `the replacement of ${name} is ${task.Status.State}${why === '' ? '' : `: ${why}`}`;
}

/** Waits until nothing of the node is left and all of it runs elsewhere. @throws ExitError 1 with the reasons */
async function waitUntilDrained(
  context: Context,
  node: Node,
  timeoutMs: number,
  before: readonly Task[],
): Promise<void> {
  const { client, clock } = context;
  const name = node.Description.Hostname ?? node.ID;
  const watch = new DrainWatch(node.ID);
  watch.see(before);
  const deadline = clock.monotonic() + timeoutMs;
  const interrupt = new AbortController();
  const stopListening = context.onInterrupt(() => interrupt.abort());
  const tasksOf = (filters: Record<string, string[]>): Promise<Task[]> => client.get<Task[]>('/tasks', { filters });
  let shown = '';
  try {
    for (;;) {
      const onNode = await tasksOf({ node: [node.ID] });
      watch.see(onNode);
      const { services } = watch;
      const others = services.length === 0 ? [] : await tasksOf({ service: services });
      const holds = watch.holds([...onNode, ...others]);
      if (holds.length === 0) return say(context.out, `${name}: drained`);
      const line = summary(name, holds);
      if (line !== shown) say(context.out, line);
      shown = line;
      if (clock.monotonic() >= deadline) {
        const names = new NameResolver(client, false);
        const reasons = await Promise.all(holds.map((hold) => describe(hold, names)));
        const limit = formatDuration(timeoutMs * 1e6);
        throw new ExitError(`node ${name} is not drained after ${limit}:\n  ${reasons.join('\n  ')}\n`, 1);
      }
      await clock.sleep(POLL_MS, interrupt.signal).catch(() => undefined);
      if (!interrupt.signal.aborted) continue;
      return say(context.out, `${name} goes on being drained in the background; see: shoal node ps ${name}`);
    }
  } finally {
    stopListening();
  }
}

async function drain(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const timeoutMs = flags.changed('timeout') ? (flags.number('timeout') ?? 0) / 1e6 : TIMEOUT_DEFAULT_MS;
  if (flags.changed('timeout') && !flags.bool('wait')) throw new Error('--timeout needs --wait');
  const [word = ''] = words;
  const { client } = context;
  const before = flags.bool('wait')
    ? await client.get<Task[]>('/tasks', { filters: { node: [await ownNode(client, word)] } })
    : [];
  const node = await setAvailability(context, word, 'drain');
  if (!flags.bool('wait')) return say(context.out, word);
  await waitUntilDrained(context, node, timeoutMs, before);
}

async function activate(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  for (const name of words) {
    await setAvailability(context, name, 'active');
    say(context.out, name);
  }
}

export const nodeDrainCommands: CommandGroup = {
  drain: {
    usage: 'self|NODE',
    arguments: exactly(1),
    options: [
      option('wait,w', 'bool', 'Return when nothing of it runs there any more and the replacements run'),
      option('timeout', 'duration', 'Longest wait; then the reasons are shown and the exit code is 1', {
        parse: parseDuration,
        shown: '10m',
      }),
    ],
    run: drain,
  },
  activate: { usage: 'self|NODE [NODE...]', arguments: atLeast(1), run: activate },
};
