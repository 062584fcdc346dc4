import { segment } from './client.ts';
import type { Context } from './context.ts';
import { ProgressDisplay } from './json-stream.ts';
import type { Node, Service, Task } from './objects.ts';
import { Convergence, type ProgressLine } from './progress.ts';

const POLL_MS = 200;

/** Shows a service's progress until it has converged. @throws Error when its update or rollback was paused */
export async function waitOnService(context: Context, id: string, quiet: boolean): Promise<void> {
  const { client, clock } = context;
  const display = new ProgressDisplay(context.out, clock);
  const show = (line: ProgressLine): void => {
    if (quiet) return;
    const { id: name, status, current, total } = line;
    const detail = line.message === true ? {} : { progressDetail: { current, total, hidecounts: true } };
    display.show({ id: name, status, ...detail });
  };
  const convergence = new Convergence(id, show);
  const interrupt = new AbortController();
  const stopListening = context.onInterrupt(() => interrupt.abort());
  try {
    for (;;) {
      const service = await client.get<Service>(`/services/${segment(id)}`, { insertDefaults: 'false' });
      let outcome = convergence.seeService(service, clock.monotonic());
      if (!outcome.done) {
        const filters = { service: [service.ID], '_up-to-date': ['true'] };
        const tasks = await client.get<Task[]>('/tasks', { filters });
        const nodes = await client.get<Node[]>('/nodes');
        const activeNodes = new Set(nodes.filter((node) => node.Status.State !== 'down').map((node) => node.ID));
        outcome = convergence.seeTasks({ service, tasks, activeNodes }, clock.monotonic());
      }
      if (outcome.done) {
        if (outcome.error !== undefined) throw new Error(outcome.error);
        return;
      }
      await clock.sleep(POLL_MS, interrupt.signal).catch(() => undefined);
      if (!interrupt.signal.aborted) continue;
      if (convergence.converged) return;
      for (const status of [
        'Operation continuing in background.',
        `Use \`shoal service ps ${id}\` to check progress.`,
      ]) {
        show({ id: '', status, current: 0, total: 0, message: true });
      }
      return;
    }
  } finally {
    stopListening();
  }
}
