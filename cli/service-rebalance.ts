import { segment } from './client.ts';
import { exactly, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import type { Service, Task } from './objects.ts';
import { NameResolver } from './resolve.ts';

const POLL_MS = 300;

/** Running tasks of a service by node, `w1: 3, w2: 1`. */
async function distribution(context: Context, serviceId: string, names: NameResolver): Promise<string> {
  const tasks = await context.client.get<Task[]>('/tasks', { filters: { service: [serviceId] } });
  const counts = new Map<string, number>();
  for (const task of tasks) {
    if (task.DesiredState !== 'running' || task.Status.State !== 'running') continue;
    const node = await names.node(task.NodeID ?? '');
    counts.set(node, (counts.get(node) ?? 0) + 1);
  }
  const parts = [...counts].sort(([a], [b]) => (a < b ? -1 : 1)).map(([node, count]) => `${node}: ${count}`);
  return parts.length === 0 ? 'no running tasks' : parts.join(', ');
}

async function rebalance(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client, clock } = context;
  const [name = ''] = words;
  const path = `/services/${segment(name)}`;
  const { ID } = await client.get<Service>(path, { insertDefaults: 'false' });
  const names = new NameResolver(client, false);
  const before = await distribution(context, ID, names);
  await client.post(`/shoal/services/${ID}/rebalance`, undefined);
  if (flags.bool('detach')) return say(context.out, name);
  const interrupt = new AbortController();
  const stopListening = context.onInterrupt(() => interrupt.abort());
  try {
    say(context.out, before);
    let shown = before;
    for (;;) {
      const service = await client.get<Service>(`/services/${ID}`, { insertDefaults: 'false' });
      const now = await distribution(context, ID, names);
      if (now !== shown) say(context.out, now);
      shown = now;
      if (service.RebalanceRequested === undefined) return say(context.out, `${name}: done`);
      await clock.sleep(POLL_MS, interrupt.signal).catch(() => undefined);
      if (interrupt.signal.aborted) return say(context.out, 'Operation continuing in background.');
    }
  } finally {
    stopListening();
  }
}

export const serviceRebalanceCommands: CommandGroup = {
  rebalance: {
    usage: 'SERVICE',
    arguments: exactly(1),
    options: [option('detach,d', 'bool', 'Return at once')],
    run: rebalance,
  },
};
