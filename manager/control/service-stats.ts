import { TaskState, type GetServiceStatsResponse, type Task } from '../../proto/index.ts';
import { NO_USAGE, type UsageSource } from '../dispatcher/index.ts';
import { autoscaleOf, average, isWanted, useOfService } from '../orchestrator/index.ts';
import { resolve } from './lookup.ts';
import type { Control, ControlOptions } from './types.ts';

type TaskStats = GetServiceStatsResponse['tasks'][number];

function statsOf(task: Task, usage: UsageSource, nowMs: number): TaskStats {
  const limits = task.spec?.resources?.limits;
  const reading = usage.of(task);
  return {
    task_id: task.id,
    slot: task.slot,
    node_id: task.node_id,
    known: reading !== undefined,
    cpu_percent: reading?.cpuPercentOfOne ?? 0,
    memory_bytes: reading?.memoryBytes ?? 0,
    age_ms: reading === undefined ? 0 : Math.max(0, Math.round(nowMs - reading.atMs)),
    nano_cpus_limit: limits?.nano_cpus ?? 0,
    memory_limit_bytes: limits?.memory_bytes ?? 0,
  };
}

/** What running tasks use. Known to the leader alone, in memory: right after it began to lead nothing is known. */
export function serviceStatsMethods(options: ControlOptions): Pick<Control, 'GetServiceStats'> {
  const { store, clock, usage = NO_USAGE } = options;
  return {
    GetServiceStats: async ({ reference }) => {
      const view = store.view();
      const service = resolve(view, 'service', reference);
      const nowMs = clock.monotonic();
      const tasks = view
        .tasksByService(service.id)
        .filter((task) => isWanted(task) && task.status?.state === TaskState.RUNNING)
        .sort((a, b) => a.slot - b.slot || (a.id < b.id ? -1 : 1));
      const use = useOfService(tasks, usage, nowMs);
      const settings = autoscaleOf(service.spec);
      return {
        service,
        tasks: tasks.map((task) => statsOf(task, usage, nowMs)),
        fresh: use.read,
        cpu_percent: average(use.cpu) ?? 0,
        memory_percent: average(use.memory) ?? 0,
        autoscale:
          settings === undefined
            ? null
            : {
                min: settings.min,
                max: settings.max,
                cpu_target: settings.cpuPercent ?? 0,
                memory_target: settings.memoryPercent ?? 0,
              },
      };
    },
  };
}
