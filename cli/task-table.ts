import { say, type Context } from './context.ts';
import type { Task } from './objects.ts';
import type { NameResolver } from './resolve.ts';
import { headers, renderListing } from './table.ts';
import { Row } from './template-values.ts';
import { ellipsis, humanDuration, naturalOrder, shortId, timeOrder } from './units.ts';
import { displayImage } from './words.ts';

const ERROR_WIDTH_MAX = 30;
const COLUMNS =
  '{{.ID}}\t{{.Name}}\t{{.Image}}\t{{.Node}}\t{{.DesiredState}}\t{{.CurrentState}}\t{{.Error}}\t{{.Ports}}';
const HEADERS = headers(
  'ID',
  'Name',
  'Image',
  'Node',
  'DesiredState=DESIRED STATE',
  'CurrentState=CURRENT STATE',
  'Error',
  'Ports',
);

const capital = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1).toLowerCase();

export interface TaskTable {
  truncate: boolean;
  quiet: boolean;
  format: string;
}

interface NamedTask {
  task: Task;
  name: string;
}

function rowOf({ task, name }: NamedTask, node: string, nowMs: number, truncate: boolean): Row {
  const error = truncate ? ellipsis(task.Status.Err ?? '', ERROR_WIDTH_MAX) : (task.Status.Err ?? '');
  const image = task.Spec.ContainerSpec?.Image ?? '';
  const age = humanDuration(nowMs - Date.parse(task.Status.Timestamp)).toLowerCase();
  const ports = task.Status.PortStatus?.Ports ?? [];
  return new Row('*task.taskContext', {
    ID: truncate ? shortId(task.ID) : task.ID,
    Name: name,
    Image: truncate ? displayImage(image) : image,
    Node: node,
    DesiredState: capital(task.DesiredState),
    CurrentState: `${capital(task.Status.State)} ${age} ago`,
    Error: error === '' ? '' : `"${error}"`,
    Ports: ports.map((port) => `*:${port.PublishedPort ?? 0}->${port.TargetPort}/${port.Protocol ?? 'tcp'}`).join(','),
  });
}

/** Prints tasks by name; older tasks of a slot stand indented below its newest. */
export async function printTasks(
  context: Context,
  tasks: readonly Task[],
  names: NameResolver,
  how: TaskTable,
): Promise<void> {
  const named: NamedTask[] = [];
  for (const task of tasks) {
    const service = await names.service(task.ServiceID);
    named.push({ task, name: `${service}.${(task.Slot ?? 0) === 0 ? (task.NodeID ?? '') : task.Slot}` });
  }
  named.sort((a, b) => naturalOrder(a.name, b.name) || timeOrder(b.task.CreatedAt, a.task.CreatedAt));
  const isTable = how.format === '' || how.format.startsWith('table');
  const rows: Row[] = [];
  let previous = '';
  for (const one of named) {
    const name = one.name === previous && isTable ? ` \\_ ${one.name}` : one.name;
    previous = one.name;
    rows.push(
      rowOf({ task: one.task, name }, await names.node(one.task.NodeID ?? ''), context.clock.now(), how.truncate),
    );
  }
  const text = renderListing({
    rows,
    columns: COLUMNS,
    headers: HEADERS,
    format: how.format,
    quiet: how.quiet ? 'ID' : undefined,
  });
  context.out.write(text);
}

/** Writes errors of several names, each on a line, and tells the exit code. */
export function reportErrors(context: Context, errors: readonly string[]): number {
  for (const error of errors) say(context.err, error);
  return errors.length === 0 ? 0 : 1;
}
