import type { PlanResponse, PlanResponse_OfService, PlanResponse_Reserved } from '../../proto/index.ts';
import { span } from '../quorum-words.ts';
import { bytes, count, cpus } from '../why/index.ts';

/** "1 task would move". */
function wouldBe(number: number, what: string): string[] {
  return number === 0 ? [] : [`${count(number, 'task')} would ${what}`];
}

function serviceLines(service: PlanResponse_OfService): string[] {
  const nodes = service.nodes.map(({ hostname, before, after }) =>
    before === after ? `${hostname}: ${after}` : `${hostname}: ${before} → ${after}`,
  );
  const what = [
    ...wouldBe(service.started, 'start'),
    ...wouldBe(service.moved, 'move'),
    ...wouldBe(service.replaced, 'be replaced on their nodes'),
    ...wouldBe(service.stopped, 'stop'),
  ];
  const detail = [
    ...(service.ports.length === 0 ? [] : [`would publish ${service.ports.join(', ')}`]),
    ...(service.addresses.length === 0 ? [] : [`would have the address ${service.addresses.join(', ')}`]),
    ...(service.update === '' ? [] : [service.update]),
  ];
  const where = nodes.length === 0 ? 'no tasks' : nodes.join(', ');
  const all = what.length === 0 ? '' : `; ${what.join(', ')}`;
  return [`${service.name}  ${where}${all}`, ...detail.map((line) => `  ${line}`)];
}

function nodeLine(node: PlanResponse_Reserved): string | undefined {
  const parts: string[] = [];
  const change = (before: string, after: string): string => (before === after ? after : `${before} → ${after}`);
  if (node.tasks_before !== node.tasks_after) parts.push(`tasks ${node.tasks_before} → ${node.tasks_after}`);
  if (node.memory_before !== node.memory_after) {
    parts.push(`memory ${change(bytes(node.memory_before), bytes(node.memory_after))} of ${bytes(node.memory_bytes)}`);
  }
  if (node.nano_cpus_before !== node.nano_cpus_after) {
    parts.push(`${change(cpus(node.nano_cpus_before), cpus(node.nano_cpus_after))} of ${cpus(node.nano_cpus)}`);
  }
  return parts.length === 0 ? undefined : `  ${node.hostname}: ${parts.join(', ')}`;
}

/** A plan as text for people. */
export function planText(plan: Omit<PlanResponse, 'text'>): string {
  const lines = plan.services.flatMap(serviceLines);
  if (lines.length === 0) lines.push('No task would start, stop or move.');
  const unplaced = plan.waiting.filter(({ already }) => !already);
  for (const { service, count: number, reason } of unplaced) {
    lines.push('', `${count(number, 'task')} of ${service} would not fit: ${reason}`);
  }
  for (const { service, count: number, reason } of plan.waiting.filter(({ already }) => already)) {
    lines.push('', `${count(number, 'task')} of ${service} waits as now: ${reason}`);
  }
  const nodes = plan.nodes.map(nodeLine).filter((line) => line !== undefined);
  if (nodes.length > 0) lines.push('', 'Reserved:', ...nodes);
  if (plan.duration_ms >= 1_000) lines.push('', `It would take ${span(plan.duration_ms)} at the least.`);
  for (const note of plan.notes) lines.push('', `Note: ${note}`);
  return `${lines.join('\n')}\n`;
}
