import { formatDuration } from '../../base/index.ts';
import { TaskState, type Task } from '../../proto/index.ts';
import type { UsageSource } from '../dispatcher/index.ts';
import type { AutoscaleSettings } from '../settings/index.ts';
import { average, neededReplicas, type AutoscalePlan } from './autoscale.ts';
import { isWanted, observed } from './service-view.ts';

/** Age up to which a reading speaks for the present, ms: agents send one every 5 s. */
const FRESH_MS = 15_000;
const NANO_PER_CPU = 1e9;
const NS_PER_MS = 1e6;

/** What the running tasks of a service use, in per cent, one number per task that tells it. */
export interface ServiceUse {
  /** Tasks that run and shall run, and those of them with a fresh reading. */
  readonly running: number;
  readonly read: number;
  /** Of the task's CPU limit, or of one CPU without a limit. */
  readonly cpu: readonly number[];
  /** Of the task's memory limit; only tasks that have one. */
  readonly memory: readonly number[];
}

/** @param nowMs monotonic, as in the readings. */
export function useOfService(tasks: readonly Task[], usage: UsageSource, nowMs: number): ServiceUse {
  const cpu: number[] = [];
  const memory: number[] = [];
  let [running, read] = [0, 0];
  for (const task of tasks) {
    if (!isWanted(task) || observed(task) !== TaskState.RUNNING) continue;
    running++;
    const reading = usage.of(task);
    if (reading === undefined || nowMs - reading.atMs > FRESH_MS) continue;
    read++;
    const limits = task.spec?.resources?.limits;
    cpu.push(reading.cpuPercentOfOne / ((limits?.nano_cpus || NANO_PER_CPU) / NANO_PER_CPU));
    const limit = limits?.memory_bytes ?? 0;
    if (limit > 0 && reading.memoryBytes !== undefined) memory.push((reading.memoryBytes / limit) * 100);
  }
  return { running, read, cpu, memory };
}

/** One of the two things that are aimed at. */
interface Aim {
  word: 'CPU' | 'memory';
  target: number;
  percents: readonly number[];
}

function aims({ cpuPercent, memoryPercent }: AutoscaleSettings, { cpu, memory }: ServiceUse): Aim[] {
  return [
    ...(cpuPercent === undefined ? [] : [{ word: 'CPU' as const, target: cpuPercent, percents: cpu }]),
    ...(memoryPercent === undefined ? [] : [{ word: 'memory' as const, target: memoryPercent, percents: memory }]),
  ];
}

/**
 * Replicas that the use asks for, before the bounds: the larger of what CPU and memory ask for. Undefined when too few
 * of the running tasks tell what they use: a new leader, or silent nodes, must not look like idleness.
 */
export function replicasFor(settings: AutoscaleSettings, use: ServiceUse, replicas: number): number | undefined {
  if (use.running === 0 || use.read * 2 < use.running) return undefined;
  return Math.max(...aims(settings, use).map((aim) => neededReplicas(aim.percents, replicas, aim.target)));
}

/** `CPU 93 % (target 50 %)` of what asks for most. */
function useText(settings: AutoscaleSettings, use: ServiceUse): string {
  const ranked = aims(settings, use)
    .map((aim) => ({ ...aim, mean: average(aim.percents) ?? 0 }))
    .sort((a, b) => b.mean / b.target - a.mean / a.target);
  const [first] = ranked;
  return first === undefined ? '' : `${first.word} ${Math.round(first.mean)} % (target ${first.target} %)`;
}

function whyText(plan: AutoscalePlan, settings: AutoscaleSettings, use: ServiceUse): string {
  switch (plan.why) {
    case 'below-min':
      return `shoal.autoscale.min is ${settings.min}`;
    case 'above-max':
      return `shoal.autoscale.max is ${settings.max}`;
    case 'more':
    case 'fewer': {
      const bound = plan.why === 'more' ? settings.max : settings.min;
      const limited = plan.replicas === bound ? `, the ${plan.why === 'more' ? 'most' : 'least'} allowed` : '';
      return `${useText(settings, use)} for ${formatDuration(plan.windowMs * NS_PER_MS)}${limited}`;
    }
  }
}

/** `scaled from 2 to 4 replicas: CPU 93 % (target 50 %) for 15s`. */
export function scaleText(from: number, plan: AutoscalePlan, settings: AutoscaleSettings, use: ServiceUse): string {
  return `scaled from ${from} to ${plan.replicas} replicas: ${whyText(plan, settings, use)}`;
}
