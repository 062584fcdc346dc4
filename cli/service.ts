import { isNotFound, segment, type Client } from './client.ts';
import {
  atLeast,
  ExitError,
  exactly,
  FILTER,
  FORMAT,
  INSPECT_FORMAT,
  NO_TRUNC,
  option,
  QUIET,
  STALE,
  type CommandGroup,
} from './command.ts';
import { say, type Context } from './context.ts';
import { inspect } from './inspect.ts';
import type { Flags } from './options.ts';
import type { PortConfig, Service, SwarmInfo, Task } from './objects.ts';
import { removeEach } from './remove.ts';
import { NameResolver } from './resolve.ts';
import { canaryLine } from './service-history.ts';
import { prettyService } from './service-pretty.ts';
import { autoscaleLine, statsOfService } from './service-stats.ts';
import { headers, renderListing } from './table.ts';
import { printTasks } from './task-table.ts';
import { Row } from './template-values.ts';
import { naturalOrder, shortId } from './units.ts';
import { displayImage } from './words.ts';

const COLUMNS = '{{.ID}}\t{{.Name}}\t{{.Mode}}\t{{.Replicas}}\t{{.Image}}\t{{.Ports}}';
const HEADERS = headers('ID', 'Name', 'Mode', 'Replicas', 'Image', 'Ports');

function modeOf({ Spec: { Mode } }: Service): string {
  if (Mode.Global !== undefined) return 'global';
  if (Mode.Replicated !== undefined) return 'replicated';
  if (Mode.ReplicatedJob !== undefined) return 'replicated job';
  return Mode.GlobalJob === undefined ? '' : 'global job';
}

function replicasOf(service: Service): string {
  const { RunningTasks = 0, DesiredTasks = 0, CompletedTasks = 0 } = service.ServiceStatus ?? {};
  const now = `${RunningTasks}/${DesiredTasks}`;
  const { Mode, TaskTemplate } = service.Spec;
  if (Mode.ReplicatedJob !== undefined)
    return `${now} (${CompletedTasks}/${Mode.ReplicatedJob.TotalCompletions ?? 0} completed)`;
  if (Mode.GlobalJob !== undefined) return `${now} (${CompletedTasks}/${DesiredTasks + CompletedTasks} completed)`;
  const most = Mode.Replicated === undefined ? 0 : (TaskTemplate.Placement?.MaxReplicas ?? 0);
  return most > 0 ? `${now} (max ${most} per node)` : now;
}

interface Span {
  from: number;
  to: number;
  targetFrom: number;
  targetTo: number;
  protocol: string;
}

const range = (from: number, to: number): string => (to > from ? `${from}-${to}` : String(from));

/** Published ports in short: neighbouring ports of one protocol become a range. */
export function displayPorts(ports: readonly PortConfig[]): string {
  const sorted = ports
    .filter((port) => (port.PublishMode ?? 'ingress') === 'ingress')
    .map((port) => ({ published: port.PublishedPort ?? 0, target: port.TargetPort, protocol: port.Protocol ?? 'tcp' }))
    .toSorted((a, b) => (a.protocol === b.protocol ? a.published - b.published : a.protocol < b.protocol ? -1 : 1));
  const spans: Span[] = [];
  for (const { published, target, protocol } of sorted) {
    const last = spans.at(-1);
    const isRange = last !== undefined && last.targetTo !== last.targetFrom;
    const follows =
      last !== undefined &&
      last.protocol === protocol &&
      published - last.to <= 1 &&
      // A target below the span's end starts a new one, unless all its ports lead to one target.
      target - last.targetTo <= 1 &&
      target >= last.targetTo &&
      !(isRange && target <= last.targetTo);
    if (follows) {
      last.to = published;
      last.targetTo = target;
    } else spans.push({ from: published, to: published, targetFrom: target, targetTo: target, protocol });
  }
  return spans
    .filter((span) => span.from > 0)
    .map((span) => `*:${range(span.from, span.to)}->${range(span.targetFrom, span.targetTo)}/${span.protocol}`)
    .join(', ');
}

function serviceRow(service: Service): Row {
  return new Row('*service.serviceContext', {
    ID: shortId(service.ID),
    Name: service.Spec.Name,
    Mode: `${modeOf(service)}${service.Cron === undefined ? '' : ` (${service.Cron.Schedule})`}`,
    Replicas: replicasOf(service),
    Image: displayImage(service.Spec.TaskTemplate.ContainerSpec?.Image ?? ''),
    Ports: displayPorts(service.Endpoint?.Ports ?? []),
  });
}

/** Says that what follows may be old, and why; asked of the daemon because only it knows. */
export async function warnStale({ client, err }: Context): Promise<void> {
  const { Swarm } = await client.get<{ Swarm: SwarmInfo }>('/info');
  const why = Swarm.Error ?? '';
  say(err, `WARNING: this is what this manager last knew; it may be old.${why === '' ? '' : ` ${why}`}`);
}

async function list(context: Context, flags: Flags): Promise<void> {
  const stale = flags.bool('stale');
  const query = { status: true, filters: flags.filters, stale };
  const services = await context.client.get<Service[]>('/services', query);
  if (stale) await warnStale(context);
  services.sort((a, b) => naturalOrder(a.Spec.Name, b.Spec.Name));
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  const rows = services.map(serviceRow);
  context.out.write(renderListing({ rows, columns: COLUMNS, headers: HEADERS, format: flags.string('format'), quiet }));
}

interface NamedServices {
  services: Service[];
  missing: string[];
}

/** The named services, by id, name or the start of an id, and what is missing. */
async function namedServices(client: Client, names: readonly string[]): Promise<NamedServices> {
  const byId = await client.get<Service[]>('/services', { filters: { id: names } });
  const byName = await client.get<Service[]>('/services', { filters: { name: names } });
  const services: Service[] = [];
  const missing: string[] = [];
  for (const name of names) {
    const matches = byId.filter((service) => service.ID.startsWith(name));
    const found =
      byId.find((service) => service.ID === name) ??
      byName.find((service) => service.Spec.Name === name) ??
      (matches.length === 1 ? matches[0] : undefined);
    if (found !== undefined) services.push(found);
    else if (matches.length > 1) throw new Error('multiple services found with provided prefix: ' + name);
    else missing.push(`no such service: ${name}`);
  }
  return { services, missing };
}

/** Says of services that scale by themselves how they stand; beside the table, so that programs need not skip it. */
async function noteAutoscaling({ client, err, clock }: Context, services: readonly Service[]): Promise<void> {
  for (const { ID, Spec } of services) {
    if (Spec.Labels?.['shoal.autoscale.max'] === undefined) continue;
    // The tasks are what was asked for: this note is never worth a failure.
    const stats = await statsOfService(client, ID).catch(() => undefined);
    const line = stats === undefined ? undefined : autoscaleLine(stats, clock.now());
    if (line !== undefined) say(err, line);
  }
}

async function tasks(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const { services, missing } = await namedServices(client, words);
  if (services.length === 0) throw new Error(missing.join('\n'));
  const filters = flags.filters;
  if (filters['node'] !== undefined)
    filters['node'] = await Promise.all(filters['node'].map((node) => ownNode(client, node)));
  const found = await client.get<Task[]>('/tasks', { filters: { ...filters, service: services.map((one) => one.ID) } });
  const names = new NameResolver(client, flags.bool('no-resolve'));
  const how = { truncate: !flags.bool('no-trunc'), quiet: flags.bool('quiet'), format: flags.string('format') };
  await printTasks(context, found, names, how);
  if (how.format === '' && !how.quiet) {
    for (const line of services.map(canaryLine)) if (line !== undefined) say(context.err, line);
    await noteAutoscaling(context, services);
  }
  if (missing.length > 0) throw new Error(missing.join('\n'));
}

/** `self` as the id of the daemon's own node. */
export async function ownNode(client: Client, name: string): Promise<string> {
  if (name !== 'self') return name;
  const info = await client.get<{ Swarm: { NodeID?: string } }>('/info');
  const id = info.Swarm.NodeID ?? '';
  // The daemon's own words tell why it has no node.
  if (id === '') await client.get('/nodes');
  return id;
}

async function show(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const format = flags.string('format');
  if (flags.bool('pretty') && format !== '') throw new Error('--format is incompatible with human friendly format');
  const noSuch = (error: unknown, name: string): unknown =>
    isNotFound(error) ? new Error(`Error: no such service: ${name}`, { cause: error }) : error;
  if (!flags.bool('pretty') && format !== 'pretty') {
    await inspect(context, words, format, async (name) => {
      try {
        return await client.text({
          method: 'GET',
          path: `/services/${segment(name)}`,
          query: { insertDefaults: 'true' },
        });
      } catch (error) {
        throw noSuch(error, name);
      }
    });
    return;
  }
  for (const name of words) {
    try {
      const service = await client.get<Service>(`/services/${segment(name)}`, { insertDefaults: 'true' });
      context.out.write(`${prettyService(service, await networkNames(client, service), context.clock.now())}\n`);
    } catch (error) {
      throw isNotFound(error) ? new ExitError(`Error: no such service: ${name}\n`, 1) : error;
    }
  }
}

async function networkNames(client: Client, service: Service): Promise<Map<string, string>> {
  const names = new Map<string, string>();
  for (const { Target } of service.Spec.TaskTemplate.Networks ?? []) {
    try {
      const network = await client.get<{ Id: string; Name: string }>(`/networks/${segment(Target)}`, {
        scope: 'swarm',
      });
      names.set(network.Id, network.Name);
    } catch (error) {
      // A network that is gone is shown by its id.
      if (!isNotFound(error)) throw error;
    }
  }
  return names;
}

function remove(context: Context, _flags: Flags, words: readonly string[]): Promise<number> {
  return removeEach(context, words, async (name) => {
    await context.client.delete(`/services/${segment(name)}`);
    say(context.out, name);
  });
}

export const serviceCommands: CommandGroup = {
  ls: { usage: '', arguments: exactly(0), options: [FILTER, FORMAT, QUIET, STALE], run: list },
  ps: {
    usage: 'SERVICE [SERVICE...]',
    arguments: atLeast(1),
    options: [FILTER, FORMAT, QUIET, NO_TRUNC, option('no-resolve', 'bool', 'Show ids in the place of names')],
    run: tasks,
  },
  inspect: {
    usage: 'SERVICE [SERVICE...]',
    arguments: atLeast(1),
    options: [INSPECT_FORMAT, option('pretty', 'bool', 'Print it for people')],
    run: show,
  },
  rm: { usage: 'SERVICE [SERVICE...]', arguments: atLeast(1), run: remove },
};
