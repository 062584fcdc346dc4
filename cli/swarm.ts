import { readFileSync } from 'node:fs';
import { errorMessage } from '../base/index.ts';
import { DaemonError, segment, type Client } from './client.ts';
import { exactly, option, type CommandGroup, type OptionSpec } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import type { Node, Swarm, SwarmInfo, SwarmSpec } from './objects.ts';
import { parseDuration, quote } from './units.ts';
import { csvFields, cut, keyValues } from './words.ts';

const LISTEN_DEFAULT = '0.0.0.0:2377';
const PORT_DEFAULT = 2377;

/** Text of a PEM file. @throws Error when the file holds none */
export function readPem(path: string): string {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(missing ? `open ${path}: no such file or directory` : (error as Error).message, { cause: error });
  }
  if (!text.includes('-----BEGIN ')) throw new Error('file contents must be in PEM format');
  return text;
}

type ExternalCa = NonNullable<NonNullable<SwarmSpec['CAConfig']>['ExternalCAs']>[number];

/** `protocol=cfssl,url=https://…,cacert=FILE` and the service's own options. */
function parseExternalCa(value: string): ExternalCa {
  const ca: ExternalCa = { Protocol: '', URL: '', Options: {} };
  for (const field of csvFields(value)) {
    const [key, text] = cut(field, '=');
    if (text === undefined) throw new Error(`invalid field '${field}' must be a key=value pair`);
    const word = key.toLowerCase();
    if (word === 'protocol') {
      if (text.toLowerCase() !== 'cfssl') throw new Error(`unrecognized external CA protocol ${text}`);
      ca.Protocol = 'cfssl';
    } else if (word === 'url') ca.URL = text;
    else if (word === 'cacert') ca.CACert = readPem(text);
    else (ca.Options ??= {})[key] = text;
  }
  if (ca.Protocol === '') throw new Error('the external-ca option needs a protocol= parameter');
  if (ca.URL === '') throw new Error('the external-ca option needs a url= parameter');
  return ca;
}

/** `host`, `host:port` or `:port`, with what is not said filled in. */
function parseAddress(value: string): string {
  const address = value.replace(/^tcp:\/\//, '');
  if (address.includes('://')) throw new Error(`invalid proto, expected tcp: ${value}`);
  const form = /^(\[[^\]]*\]|[^:]*)(?::(\d+))?$/.exec(address);
  if (form === null) throw new Error(`invalid bind address format: ${value}`);
  return `${form[1] === '' ? '0.0.0.0' : form[1]}:${form[2] ?? PORT_DEFAULT}`;
}

/** Options of the certificates, for `swarm init`, `update` and `ca`. */
export const CA_OPTIONS: readonly OptionSpec[] = [
  option('cert-expiry', 'duration', 'How long certificates of nodes are valid', {
    parse: parseDuration,
    shown: '2160h0m0s',
  }),
  option('external-ca', 'external-ca', 'Services outside that sign certificates', {
    parse: parseExternalCa,
    many: true,
  }),
];

const SPEC_OPTIONS: readonly OptionSpec[] = [
  ...CA_OPTIONS,
  option('task-history-limit', 'int', 'How many old tasks are kept for each slot', { shown: '5' }),
  option('dispatcher-heartbeat', 'duration', 'Time between two signs of life of a node', {
    parse: parseDuration,
    shown: '1s',
  }),
  option('node-down-after', 'duration', 'Silence after which a node is down and its tasks are replaced', {
    parse: parseDuration,
    shown: '5s',
  }),
  option('max-snapshots', 'uint', 'Old Raft snapshots that are kept besides the newest'),
  option('snapshot-interval', 'uint', 'Log entries between two Raft snapshots', { shown: '10000' }),
  option('scheduler-strategy', 'string', 'How nodes are ranked for services that choose none ("spread", "binpack")', {
    shown: '"spread"',
  }),
  option('autolock', 'bool', 'Managers need an unlock key after a restart'),
];

/** Lays the certificate flags over a specification; external services without a certificate get `certificate`. */
export function editCa(spec: SwarmSpec, flags: Flags, certificate = ''): void {
  const ca = (spec.CAConfig ??= {});
  if (flags.changed('cert-expiry')) ca.NodeCertExpiry = flags.number('cert-expiry') ?? 0;
  if (!flags.changed('external-ca')) return;
  const services = flags.list<ExternalCa>('external-ca');
  ca.ExternalCAs = services.map((one) =>
    certificate === '' || one.CACert !== undefined ? one : { ...one, CACert: certificate },
  );
}

function editSwarm(spec: SwarmSpec, flags: Flags): void {
  const set = (name: string, run: (value: number) => void): void => {
    const value = flags.number(name);
    if (flags.changed(name) && value !== undefined) run(value);
  };
  set('task-history-limit', (value) => ((spec.Orchestration ??= {}).TaskHistoryRetentionLimit = value));
  set('dispatcher-heartbeat', (value) => {
    const dispatcher = (spec.Dispatcher ??= {});
    // The silence follows the period unless it is given itself.
    if (dispatcher.HeartbeatPeriod !== value) delete dispatcher.NodeDownAfter;
    dispatcher.HeartbeatPeriod = value;
  });
  set('node-down-after', (value) => ((spec.Dispatcher ??= {}).NodeDownAfter = value));
  set('max-snapshots', (value) => ((spec.Raft ??= {}).KeepOldSnapshots = value));
  set('snapshot-interval', (value) => ((spec.Raft ??= {}).SnapshotInterval = value));
  if (flags.changed('scheduler-strategy')) {
    spec.Labels = { ...spec.Labels, 'shoal.scheduler.strategy': flags.string('scheduler-strategy') };
  }
  if (flags.changed('autolock')) (spec.EncryptionConfig ??= {}).AutoLockManagers = flags.bool('autolock');
  editCa(spec, flags);
}

function availability(flags: Flags): string {
  if (!flags.changed('availability')) return '';
  const word = flags.string('availability').toLowerCase();
  if (['active', 'pause', 'drain'].includes(word)) return word;
  throw new Error(
    `invalid availability ${quote(flags.string('availability'))}, only active, pause and drain are supported`,
  );
}

/** Labels of the node, as `key=value`; a key alone has an empty value. */
function nodeLabels(flags: Flags): Record<string, string> {
  return keyValues(flags.list('label'));
}

/** Prints the command that joins a node as `role`. */
export async function printJoinCommand(context: Context, nodeId: string, role: 'worker' | 'manager'): Promise<void> {
  const { client } = context;
  const node = await client.get<Node>(`/nodes/${segment(nodeId)}`);
  const swarm = await client.get<Swarm>('/swarm');
  if (node.ManagerStatus === undefined) return;
  const token = role === 'worker' ? swarm.JoinTokens.Worker : swarm.JoinTokens.Manager;
  context.out.write(
    `To add a ${role} to this swarm, run the following command:\n\n    shoal swarm join --token ${token} ${node.ManagerStatus.Addr}\n\n`,
  );
}

/** Prints how a manager is unlocked. */
export async function printUnlockKey(context: Context, key: string): Promise<void> {
  if (key === '') return;
  context.out.write(
    `To unlock a swarm manager after it restarts, run the \`shoal swarm unlock\`\ncommand and provide the following key:\n\n    ${key}\n\n` +
      'Keep this key in a safe place: without it the manager cannot be restarted.\n',
  );
}

/** The key that unlocks managers. @throws Error saying that it could not be had */
export async function unlockKey(client: Client): Promise<string> {
  try {
    return (await client.get<{ UnlockKey: string }>('/swarm/unlockkey')).UnlockKey;
  } catch (error) {
    throw new Error(`could not fetch unlock key: ${errorMessage(error)}`, { cause: error });
  }
}

/** Prints what a swarm began anew with, if it did. */
export async function printRecovery(context: Context): Promise<void> {
  const report = await context.client.get<{ lines: string[] }>('/shoal/swarm/recovery').catch(() => undefined);
  if (report !== undefined) context.out.write(`${report.lines.join('\n')}\n\n`);
}

const addressPools = (flags: Flags): string[] => flags.list('default-addr-pool').flatMap((pool) => pool.split(','));

async function init(context: Context, flags: Flags): Promise<void> {
  const { client } = context;
  const spec: SwarmSpec = {
    Labels: null,
    Orchestration: {},
    Raft: {},
    Dispatcher: {},
    CAConfig: {},
    TaskDefaults: {},
    EncryptionConfig: {},
  };
  editSwarm(spec, flags);
  const body = {
    ListenAddr: flags.string('listen-addr'),
    AdvertiseAddr: flags.string('advertise-addr'),
    DataPathAddr: flags.string('data-path-addr'),
    DataPathPort: flags.number('data-path-port') ?? 0,
    DefaultAddrPool: addressPools(flags),
    SubnetSize: flags.number('default-addr-pool-mask-length') ?? 24,
    ForceNewCluster: flags.bool('force-new-cluster'),
    AutoLockManagers: flags.bool('autolock'),
    Availability: availability(flags),
    NodeLabels: nodeLabels(flags),
    Spec: spec,
  };
  let nodeId: string;
  try {
    nodeId = await client.post<string>('/swarm/init', body);
  } catch (error) {
    const unclear = /could not choose an IP address to advertise|could not find the system's IP address/;
    if (error instanceof DaemonError && unclear.test(error.reason)) {
      throw new Error(`${error.message} - specify one with --advertise-addr`, { cause: error });
    }
    throw error;
  }
  say(context.out, `Swarm initialized: current node (${nodeId}) is now a manager.\n`);
  if (body.ForceNewCluster) await printRecovery(context);
  await printJoinCommand(context, nodeId, 'worker');
  say(context.out, "To add a manager to this swarm, run 'shoal swarm join-token manager' and follow the instructions.");
  if (body.AutoLockManagers) await printUnlockKey(context, await unlockKey(client));
}

async function join(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  await client.post('/swarm/join', {
    ListenAddr: flags.string('listen-addr'),
    AdvertiseAddr: flags.string('advertise-addr'),
    DataPathAddr: flags.string('data-path-addr'),
    RemoteAddrs: words,
    JoinToken: flags.string('token'),
    Availability: availability(flags),
    NodeLabels: nodeLabels(flags),
  });
  const info = await client.get<{ Swarm: SwarmInfo }>('/info');
  say(context.out, `This node joined a swarm as a ${info.Swarm.ControlAvailable === true ? 'manager' : 'worker'}.`);
}

async function leave(context: Context, flags: Flags): Promise<void> {
  await context.client.post('/swarm/leave', undefined, { force: flags.bool('force') });
  say(context.out, 'Node left the swarm.');
}

async function update(context: Context, flags: Flags): Promise<void> {
  const { client } = context;
  const swarm = await client.get<Swarm>('/swarm');
  const wasLocked = swarm.Spec.EncryptionConfig?.AutoLockManagers ?? false;
  editSwarm(swarm.Spec, flags);
  const pools = {
    ...(flags.changed('default-addr-pool') ? { DefaultAddrPool: addressPools(flags) } : {}),
    ...(flags.changed('default-addr-pool-mask-length')
      ? { SubnetSize: flags.number('default-addr-pool-mask-length') }
      : {}),
  };
  await client.post(
    '/swarm/update',
    { ...swarm.Spec, ...pools },
    {
      version: swarm.Version.Index,
      rotateWorkerToken: 'false',
      rotateManagerToken: 'false',
      rotateManagerUnlockKey: 'false',
    },
  );
  say(context.out, 'Swarm updated.');
  if (!wasLocked && flags.bool('autolock')) await printUnlockKey(context, await unlockKey(client));
}

const POOL_OPTIONS: readonly OptionSpec[] = [
  option('default-addr-pool', 'ipNetSlice', 'Pools that subnets are taken from, in CIDR form', {
    many: true,
    shown: '[]',
  }),
  option('default-addr-pool-mask-length', 'uint32', 'Length of the subnets taken from a pool', {
    initial: 24,
    shown: '24',
  }),
];

const ADDRESS_OPTIONS: readonly OptionSpec[] = [
  option('advertise-addr', 'string', 'Address that other nodes are told (<ip|interface>[:port])'),
  option('data-path-addr', 'string', "Address or interface of the containers' traffic"),
  option('listen-addr', 'node-addr', 'Address to listen on (<ip|interface>[:port])', {
    parse: parseAddress,
    initial: LISTEN_DEFAULT,
    shown: LISTEN_DEFAULT,
  }),
  option('availability', 'string', 'Whether the node takes tasks ("active", "pause", "drain")', { shown: '"active"' }),
  option('label', 'list', 'Labels that the node has from the start (key=value)'),
];

export const swarmCommands: CommandGroup = {
  init: {
    usage: '',
    arguments: exactly(0),
    options: [
      ...ADDRESS_OPTIONS,
      ...SPEC_OPTIONS,
      option('data-path-port', 'uint32', "Port of the containers' traffic between hosts (1024 - 49151; 0 is 4789)"),
      ...POOL_OPTIONS,
      option('force-new-cluster', 'bool', 'Begin anew with the present state, as the only manager'),
    ],
    run: init,
  },
  join: {
    usage: 'HOST:PORT',
    arguments: exactly(1),
    options: [...ADDRESS_OPTIONS, option('token', 'string', 'Token for entry into the swarm')],
    run: join,
  },
  leave: {
    usage: '',
    arguments: exactly(0),
    options: [option('force,f', 'bool', 'Leave even if this is a manager, whatever is lost')],
    run: leave,
  },
  update: { usage: '', arguments: exactly(0), options: [...SPEC_OPTIONS, ...POOL_OPTIONS], run: update },
};
