import { segment, type Client } from './client.ts';
import {
  atLeast,
  between,
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
import { prettyNode } from './node-pretty.ts';
import type { Flags } from './options.ts';
import type { Node, Swarm, SwarmInfo, Task } from './objects.ts';
import { removeEach } from './remove.ts';
import { NameResolver } from './resolve.ts';
import { ownNode, warnStale } from './service.ts';
import { headers, renderListing } from './table.ts';
import { printTasks, reportErrors } from './task-table.ts';
import { Row } from './template-values.ts';
import { naturalOrder } from './units.ts';
import { errorMessage } from '../base/index.ts';
import { keyValues } from './words.ts';

const COLUMNS =
  '{{.ID}} {{if .Self}}*{{else}} {{ end }}\t{{.Hostname}}\t{{.Status}}\t{{.Availability}}\t{{.ManagerStatus}}\t{{.EngineVersion}}';
const HEADERS = headers(
  'ID',
  'Self=',
  'Hostname',
  'Status',
  'Availability',
  'ManagerStatus=MANAGER STATUS',
  'EngineVersion=ENGINE VERSION',
  'TLSStatus=TLS STATUS',
);

const capital = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1);

function tlsStatus(node: Node, cluster: Partial<Swarm> | undefined): string {
  const own = node.Description.TLSInfo;
  const root = cluster?.TLSInfo;
  if (root === undefined || own === undefined || JSON.stringify(own) === '{}') return 'Unknown';
  const same =
    own.TrustRoot === root.TrustRoot &&
    own.CertIssuerPublicKey === root.CertIssuerPublicKey &&
    own.CertIssuerSubject === root.CertIssuerSubject;
  return same ? 'Ready' : 'Needs Rotation';
}

async function list(context: Context, flags: Flags): Promise<void> {
  const { client } = context;
  const stale = flags.bool('stale');
  const nodes = await client.get<Node[]>('/nodes', { filters: flags.filters, stale });
  if (stale) await warnStale(context);
  const info = nodes.length > 0 && !flags.bool('quiet') ? await client.get<{ Swarm: SwarmInfo }>('/info') : undefined;
  nodes.sort((a, b) => naturalOrder(a.Description.Hostname ?? '', b.Description.Hostname ?? ''));
  const rows = nodes.map((node) => {
    const manager = node.ManagerStatus;
    return new Row('*node.nodeContext', {
      ID: node.ID,
      Self: node.ID === info?.Swarm.NodeID,
      Hostname: node.Description.Hostname ?? '',
      Status: capital(node.Status.State),
      Availability: capital(node.Spec.Availability),
      ManagerStatus: manager === undefined ? '' : manager.Leader === true ? 'Leader' : capital(manager.Reachability),
      EngineVersion: node.Description.Engine?.EngineVersion ?? '',
      TLSStatus: tlsStatus(node, info?.Swarm.Cluster),
    });
  });
  const quiet = flags.bool('quiet') ? 'ID' : undefined;
  context.out.write(renderListing({ rows, columns: COLUMNS, headers: HEADERS, format: flags.string('format'), quiet }));
}

async function show(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const format = flags.string('format');
  if (flags.bool('pretty') && format !== '') throw new Error('--format is incompatible with human friendly format');
  const path = async (name: string): Promise<string> => `/nodes/${segment(await ownNode(client, name))}`;
  if (flags.bool('pretty') || format === 'pretty') {
    for (const name of words) context.out.write(`${prettyNode(await client.get<Node>(await path(name)))}\n`);
    return;
  }
  await inspect(context, words, format, async (name) => client.text({ method: 'GET', path: await path(name) }));
}

async function tasks(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const { client } = context;
  const errors: string[] = [];
  const found: Task[] = [];
  for (const name of words.length === 0 ? ['self'] : words) {
    try {
      const node = await client.get<Node>(`/nodes/${segment(await ownNode(client, name))}`);
      found.push(...(await client.get<Task[]>('/tasks', { filters: { ...flags.filters, node: [node.ID] } })));
    } catch (error) {
      errors.push(errorMessage(error));
    }
  }
  const names = new NameResolver(client, flags.bool('no-resolve'));
  const how = { truncate: !flags.bool('no-trunc'), quiet: flags.bool('quiet'), format: flags.string('format') };
  if (errors.length === 0 || found.length > 0) await printTasks(context, found, names, how);
  return reportErrors(context, errors);
}

/** Changes nodes one by one; `edit` gives false when a node needs no change. */
async function change(
  client: Client,
  names: readonly string[],
  edit: (node: Node, name: string) => boolean,
  done: (name: string) => void,
): Promise<void> {
  for (const name of names) {
    const node = await client.get<Node>(`/nodes/${segment(await ownNode(client, name))}`);
    if (!edit(node, name)) continue;
    await client.post(`/nodes/${node.ID}/update`, node.Spec, { version: node.Version.Index });
    done(name);
  }
}

function roleCommand(role: 'manager' | 'worker', already: string, done: string): CommandGroup[string] {
  return {
    usage: 'NODE [NODE...]',
    arguments: atLeast(1),
    run: (context, _flags, words) =>
      change(
        context.client,
        words,
        (node) => {
          if (node.Spec.Role === role) {
            say(context.out, already.replace('NODE', node.ID));
            return false;
          }
          node.Spec.Role = role;
          return true;
        },
        (name) => say(context.out, done.replace('NODE', name)),
      ),
  };
}

async function update(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const edit = ({ Spec }: Node): boolean => {
    if (flags.changed('role')) Spec.Role = flags.string('role').toLowerCase();
    if (flags.changed('availability')) Spec.Availability = flags.string('availability').toLowerCase();
    const labels = { ...Spec.Labels, ...keyValues(flags.list('label-add')) };
    for (const key of flags.list('label-rm')) {
      if (!Object.hasOwn(labels, key)) throw new Error(`key ${key} doesn't exist in node's labels`);
      delete labels[key];
    }
    Spec.Labels = labels;
    return true;
  };
  await change(context.client, words, edit, (name) => say(context.out, name));
}

function remove(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  return removeEach(context, words, async (name) => {
    await context.client.delete(`/nodes/${segment(name)}`, { force: flags.bool('force') });
    say(context.out, name);
  });
}

export const nodeCommands: CommandGroup = {
  ls: { usage: '', arguments: exactly(0), options: [FILTER, FORMAT, QUIET, STALE], run: list },
  inspect: {
    usage: 'self|NODE [NODE...]',
    arguments: atLeast(1),
    options: [INSPECT_FORMAT, option('pretty', 'bool', 'Print it for people')],
    run: show,
  },
  ps: {
    usage: '[NODE...]',
    arguments: between(0, Infinity),
    options: [FILTER, FORMAT, QUIET, NO_TRUNC, option('no-resolve', 'bool', 'Show ids in the place of names')],
    run: tasks,
  },
  promote: roleCommand('manager', 'Node NODE is already a manager.', 'Node NODE promoted to a manager in the swarm.'),
  demote: roleCommand('worker', 'Node NODE is already a worker.', 'Manager NODE demoted in the swarm.'),
  update: {
    usage: 'NODE',
    arguments: exactly(1),
    options: [
      option('availability', 'string', 'Whether it takes tasks ("active", "pause", "drain")'),
      option('role', 'string', 'Role of the node ("worker", "manager")'),
      option('label-add', 'list', 'Labels to add or change (key=value)'),
      option('label-rm', 'list', 'Labels to remove, by key'),
    ],
    run: update,
  },
  rm: {
    usage: 'NODE [NODE...]',
    arguments: atLeast(1),
    options: [option('force,f', 'bool', 'Remove a node even if it is not down')],
    run: remove,
  },
};
