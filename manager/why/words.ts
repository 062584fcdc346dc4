import type { Task } from '../../proto/index.ts';
import { span } from '../quorum-words.ts';
import type { ReadView } from '../store/types.ts';

/** Characters of an id where the whole of it would be noise. */
const SHORT_ID_CHARS = 12;

export const shortId = (id: string): string => id.slice(0, SHORT_ID_CHARS);

/** A text whose full ids are cut to their first characters. */
export const shortIds = (text: string): string => text.replaceAll(/\b[a-z0-9]{25}\b/g, shortId);

/** Hostname of a node; its id when it is gone. */
export function hostname(view: ReadView, nodeId: string): string {
  return view.get('node', nodeId)?.description?.hostname || nodeId;
}

/** `web.1`; of a node-bound service `web.HOSTNAME`. */
export function taskLabel(view: ReadView, task: Task): string {
  const service = task.service_annotations?.name || view.get('service', task.service_id)?.spec?.annotations?.name;
  const place = task.slot === 0 ? hostname(view, task.node_id) : String(task.slot);
  return service === undefined ? task.annotations?.name || task.id : `${service}.${place}`;
}

/** "12 seconds ago". */
export function ago(atMs: number, nowMs: number): string {
  return `${span(Math.max(0, nowMs - atMs))} ago`;
}

/** "in 3 seconds"; rounded up, so that nothing is promised too early. */
export function ahead(atMs: number, nowMs: number): string {
  return `in ${span(Math.max(1_000, Math.ceil((atMs - nowMs) / 1_000) * 1_000))}`;
}

/** "1 task", "3 tasks". */
export function count(number: number, word: string): string {
  return `${number} ${word}${number === 1 ? '' : 's'}`;
}

/** Bytes in powers of 1024, at most two digits behind the point: `512MiB`, `1.5GiB`. */
export function bytes(size: number): string {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = size;
  let step = 0;
  while (Math.abs(value) >= 1024 && step < names.length - 1) {
    value /= 1024;
    step++;
  }
  return `${Number(value.toFixed(2))}${names[step]}`;
}

/** Billionths of a CPU: `0.5 CPUs`, `1 CPU`. */
export function cpus(nano: number): string {
  const value = Number((nano / 1e9).toFixed(3));
  return `${value} CPU${value === 1 ? '' : 's'}`;
}

/** Up to `most` words of a list: `a, b and 3 more`. */
export function some(words: readonly string[], most = 5): string {
  if (words.length <= most) return words.join(', ');
  return `${words.slice(0, most).join(', ')} and ${words.length - most} more`;
}
