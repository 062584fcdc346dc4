import { readFileSync } from 'node:fs';
import { segment, type Client } from './client.ts';
import type { Flags } from './options.ts';
import type {
  ContainerSpec,
  DataReference,
  Healthcheck,
  Mount,
  NetworkAttachment,
  PortConfig,
  ServiceMode,
  ServiceSpec,
  TaskSpec,
  UpdateConfig,
} from './objects.ts';
import { withoutAddresses, withPublishAddresses } from './service-publish.ts';
import { withSettings } from './service-settings.ts';
import { effectiveCapabilities, parseGenericResources } from './service-values.ts';
import { cut, keyValues } from './words.ts';

export const UPDATE_DEFAULTS: UpdateConfig = {
  Parallelism: 1,
  Monitor: 5e9,
  FailureAction: 'pause',
  MaxFailureRatio: 0,
  Order: 'stop-first',
};
export const RESTART_DEFAULTS = { Condition: 'any', Delay: 5e9, MaxAttempts: 0 };

const UPDATE_FIELDS = {
  parallelism: 'Parallelism',
  delay: 'Delay',
  monitor: 'Monitor',
  'failure-action': 'FailureAction',
  'max-failure-ratio': 'MaxFailureRatio',
  order: 'Order',
} as const;

/** Update or rollback settings with the flags laid over `before`; `before` when no flag was given. */
export function updateConfig(
  flags: Flags,
  verb: 'update' | 'rollback',
  before?: UpdateConfig,
): UpdateConfig | undefined {
  const given = Object.entries(UPDATE_FIELDS).filter(([name]) => flags.changed(`${verb}-${name}`));
  if (given.length === 0) return before;
  const set = given.map(([name, field]) => [field, flags.value(`${verb}-${name}`)] as const);
  return { ...(before ?? UPDATE_DEFAULTS), ...(Object.fromEntries(set) as Partial<UpdateConfig>) };
}

/** Restart settings with the flags laid over `before`. */
export function restartPolicy(flags: Flags, before?: TaskSpec['RestartPolicy']): TaskSpec['RestartPolicy'] {
  const fields = { condition: 'Condition', delay: 'Delay', 'max-attempts': 'MaxAttempts', window: 'Window' };
  const given = Object.entries(fields).filter(([name]) => flags.changed(`restart-${name}`));
  if (given.length === 0) return before;
  const set = given.map(([name, field]) => [field, flags.value(`restart-${name}`)] as const);
  return { ...(before ?? RESTART_DEFAULTS), ...Object.fromEntries(set) };
}

function serviceMode(flags: Flags): ServiceMode {
  const mode = flags.string('mode');
  const replicas = flags.number('replicas');
  const concurrent = flags.number('max-concurrent');
  const jobOnly = 'max-concurrent can only be used with replicated-job mode';
  switch (mode) {
    case 'replicated':
      if (concurrent !== undefined) throw new Error(jobOnly);
      return { Replicated: replicas === undefined ? {} : { Replicas: replicas } };
    case 'replicated-job': {
      const most = concurrent ?? replicas;
      return {
        ReplicatedJob: {
          ...(most === undefined ? {} : { MaxConcurrent: most }),
          ...(replicas === undefined ? {} : { TotalCompletions: replicas }),
        },
      };
    }
    case 'global':
    case 'global-job':
      if (replicas !== undefined) throw new Error('replicas can only be used with replicated or replicated-job mode');
      if ((flags.number('replicas-max-per-node') ?? 0) > 0) {
        throw new Error('replicas-max-per-node can only be used with replicated or replicated-job mode');
      }
      if (concurrent !== undefined) throw new Error(jobOnly);
      return mode === 'global' ? { Global: {} } : { GlobalJob: {} };
    default:
      throw new Error(`Unknown mode: ${mode}, only replicated and global supported`);
  }
}

/** A variable as it is given: `K=V`, or `K` with the value that the client's own environment has. */
function resolved(
  word: string,
  env: Readonly<Record<string, string | undefined>>,
  bareIsKept: boolean,
): string | undefined {
  if (word.includes('=')) return word;
  const value = env[word];
  return value === undefined ? (bareIsKept ? word : undefined) : `${word}=${value}`;
}

function environmentFile(path: string, env: Readonly<Record<string, string | undefined>>): string[] {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(missing ? `open ${path}: no such file or directory` : (error as Error).message, { cause: error });
  }
  const words: string[] = [];
  for (const [i, raw] of text
    .replace(/^\uFEFF/, '')
    .split(/\r?\n/)
    .entries()) {
    const line = raw.trimStart();
    if (line === '' || line.startsWith('#')) continue;
    const [key] = cut(line, '=');
    if (/\s/.test(key)) throw new Error(`invalid env file (${path}): variable '${key}' contains whitespaces`);
    if (key === '') throw new Error(`invalid env file (${path}): no variable name on line '${raw}' (line ${i + 1})`);
    const word = resolved(line, env, false);
    if (word !== undefined) words.push(word);
  }
  return words;
}

/** Environment of `--env-file` and `--env`; a later value of a name takes the place of an earlier one. */
export function environment(
  files: readonly string[],
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): string[] {
  const given = [
    ...files.flatMap((file) => environmentFile(file, env)),
    ...words.map((word) => resolved(word, env, true) ?? word),
  ];
  let result: string[] = [];
  for (const word of given) {
    const [key] = cut(word, '=');
    result = result.filter((other) => other !== word && !other.startsWith(`${key}=`));
    result.push(word);
  }
  return result;
}

const HEALTH_FIELDS = {
  'health-interval': 'Interval',
  'health-timeout': 'Timeout',
  'health-retries': 'Retries',
  'health-start-period': 'StartPeriod',
  'health-start-interval': 'StartInterval',
} as const;

/** Health check with the flags laid over `before`. @throws Error when it is both set and forbidden */
export function healthcheck(flags: Flags, before?: Healthcheck): Healthcheck | undefined {
  const names = Object.keys(HEALTH_FIELDS).concat('health-cmd');
  const given = flags.changed(...names);
  if (flags.bool('no-healthcheck')) {
    if (given) throw new Error('--no-healthcheck conflicts with --health-* options');
    return { Test: ['NONE'] };
  }
  if (!given) return before;
  const check: Healthcheck = { ...before };
  if (check.Test?.[0] === 'NONE') delete check.Test;
  for (const [name, field] of Object.entries(HEALTH_FIELDS)) {
    if (flags.changed(name)) check[field] = flags.number(name) ?? 0;
  }
  if (flags.changed('health-cmd')) {
    const command = flags.string('health-cmd');
    if (command === '') delete check.Test;
    else check.Test = ['CMD-SHELL', command];
  }
  return check;
}

/** Networks with ids in the place of names, in the order of their ids. */
export async function resolveNetworks(
  client: Client,
  networks: readonly NetworkAttachment[],
): Promise<NetworkAttachment[]> {
  const result: NetworkAttachment[] = [];
  for (const network of networks) result.push({ ...network, Target: await networkId(client, network.Target) });
  return result.toSorted((a, b) => (a.Target < b.Target ? -1 : 1));
}

/** Id of a network of the swarm. */
export async function networkId(client: Client, name: string): Promise<string> {
  return (await client.get<{ Id: string }>(`/networks/${segment(name)}`, { scope: 'swarm' })).Id;
}

interface DataObject {
  ID: string;
  Spec: { Name: string };
}

/** References with ids. @throws Error when a name is unknown or two references want the same file */
export async function resolveData(
  client: Client,
  noun: 'Secret' | 'Config',
  wanted: readonly DataReference[],
): Promise<DataReference[]> {
  if (wanted.length === 0) return [];
  const lower = noun.toLowerCase();
  const nameOf = (reference: DataReference): string => reference.SecretName ?? reference.ConfigName ?? '';
  const files = new Set<string>();
  for (const { File } of wanted) {
    if (File === undefined) continue;
    if (files.has(File.Name))
      throw new Error(`duplicate ${lower} target for ${nameOf(wanted[0] as DataReference)} not allowed`);
    files.add(File.Name);
  }
  const names = [...new Set(wanted.map(nameOf))];
  const found = await client.get<DataObject[]>(`/${lower}s`, { filters: { name: names } });
  const ids = new Map(found.map((object) => [object.Spec.Name, object.ID]));
  return wanted.map((reference) => {
    const name = nameOf(reference);
    const id = ids.get(name);
    if (id === undefined) throw new Error(`${lower} not found: ${name}`);
    return noun === 'Secret' ? { ...reference, SecretID: id } : { ...reference, ConfigID: id };
  });
}

/** `host:ip` words in the form of /etc/hosts. */
export const hostLines = (words: readonly string[]): string[] =>
  words.map((word) => {
    const [host, ip] = cut(word, ':');
    return `${ip ?? ''} ${host}`;
  });

function containerSpec(
  flags: Flags,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): ContainerSpec {
  const capabilities = effectiveCapabilities(flags.list('cap-add'), flags.list('cap-drop'));
  const health = healthcheck(flags);
  const grace = flags.number('stop-grace-period');
  const credentials = flags.changed('credential-spec') ? flags.value<object>('credential-spec') : undefined;
  const ulimits = flags.list<{ Name: string; Hard: number; Soft: number }>('ulimit');
  return omitEmpty({
    Image: words[0] ?? '',
    Args: words.slice(1),
    Command: flags.value<string[]>('entrypoint') ?? [],
    Env: environment(flags.list('env-file'), flags.list('env'), env),
    Hostname: flags.string('hostname'),
    Labels: keyValues(flags.list('container-label')),
    Dir: flags.string('workdir'),
    User: flags.string('user'),
    Groups: flags.list('group'),
    StopSignal: flags.string('stop-signal'),
    TTY: flags.bool('tty'),
    ReadOnly: flags.bool('read-only'),
    Mounts: flags.list<Mount>('mount'),
    // Sent always, as docker does: the API tells "off" from "not said".
    Init: flags.bool('init'),
    DNSConfig: omitEmpty({
      Nameservers: flags.list('dns'),
      Search: flags.list('dns-search'),
      Options: flags.list('dns-option'),
    }),
    Hosts: hostLines(flags.list('host')),
    ...(grace === undefined ? {} : { StopGracePeriod: grace }),
    ...(health === undefined ? {} : { Healthcheck: health }),
    Isolation: flags.string('isolation'),
    Sysctls: keyValues(flags.list('sysctl')),
    CapabilityAdd: capabilities.add,
    CapabilityDrop: capabilities.drop,
    Ulimits: ulimits,
    OomScoreAdj: flags.number('oom-score-adj') ?? 0,
    ...(credentials === undefined ? {} : { Privileges: { CredentialSpec: credentials } }),
  });
}

const KEPT_WHEN_EMPTY = new Set(['Init', 'DNSConfig', 'Image']);

/** Without empty fields, as the API's own marshaller leaves them out. */
function omitEmpty<T extends object>(value: T): T {
  const entries = Object.entries(value).filter(([name, field]: [string, unknown]) => {
    if (KEPT_WHEN_EMPTY.has(name)) return true;
    if (Array.isArray(field)) return field.length > 0;
    if (typeof field === 'object' && field !== null) return Object.keys(field).length > 0;
    return field !== '' && field !== 0 && field !== false && field !== undefined;
  });
  return Object.fromEntries(entries) as T;
}

function resources(flags: Flags): TaskSpec['Resources'] {
  return {
    Limits: omitEmpty({
      NanoCPUs: flags.number('limit-cpu') ?? 0,
      MemoryBytes: flags.number('limit-memory') ?? 0,
      Pids: flags.number('limit-pids') ?? 0,
    }),
    Reservations: omitEmpty({
      NanoCPUs: flags.number('reserve-cpu') ?? 0,
      MemoryBytes: flags.number('reserve-memory') ?? 0,
      GenericResources: parseGenericResources(flags.list('generic-resource')),
    }),
  };
}

/** The specification that the flags of `service create` ask for. @throws Error for flags that contradict each other */
export async function serviceSpec(
  client: Client,
  flags: Flags,
  words: readonly string[],
  env: Readonly<Record<string, string | undefined>>,
): Promise<ServiceSpec> {
  const container = containerSpec(flags, words, env);
  const mode = serviceMode(flags);
  const update = updateConfig(flags, 'update');
  const rollback = updateConfig(flags, 'rollback');
  const isJob = mode.ReplicatedJob !== undefined || mode.GlobalJob !== undefined;
  if (isJob && (update ?? rollback) !== undefined) {
    throw new Error('update and rollback configuration is not supported for jobs');
  }
  const networks = await resolveNetworks(client, flags.list<NetworkAttachment>('network'));
  const restart = restartPolicy(flags);
  const task: TaskSpec = omitEmpty({
    ContainerSpec: container,
    Resources: resources(flags) ?? {},
    ...(restart === undefined ? {} : { RestartPolicy: restart }),
    Placement: omitEmpty({
      Constraints: flags.list('constraint'),
      Preferences: flags.list<{ Spread: { SpreadDescriptor: string } }>('placement-pref'),
      MaxReplicas: flags.number('replicas-max-per-node') ?? 0,
    }),
    Networks: networks,
    ...(flags.string('log-driver') === ''
      ? {}
      : { LogDriver: { Name: flags.string('log-driver'), Options: keyValues(flags.list('log-opt')) } }),
  });
  const ports = flags.list<PortConfig>('publish');
  return {
    Name: flags.string('name'),
    Labels: withPublishAddresses(withSettings(flags, keyValues(flags.list('label'))), ports, ports),
    TaskTemplate: { ...task, ForceUpdate: 0 },
    Mode: mode,
    ...(update === undefined ? {} : { UpdateConfig: update }),
    ...(rollback === undefined ? {} : { RollbackConfig: rollback }),
    EndpointSpec: {
      Mode: flags.changed('endpoint-mode') ? flags.string('endpoint-mode').toLowerCase() : 'vip',
      ...(ports.length === 0 ? {} : { Ports: withoutAddresses(ports) }),
    },
  };
}
