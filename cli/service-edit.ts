import type { Client } from './client.ts';
import type { Flags } from './options.ts';
import type {
  ContainerSpec,
  DataReference,
  Mount,
  NetworkAttachment,
  PortConfig,
  ServiceSpec,
  TaskSpec,
} from './objects.ts';
import { healthcheck, hostLines, networkId, resolveData, restartPolicy, updateConfig } from './service-spec.ts';
import { withoutAddresses, withPublishAddresses } from './service-publish.ts';
import { hasSettings, withSettings } from './service-settings.ts';
import { capabilitySet, parseGenericResources } from './service-values.ts';
import { cut, keyValues } from './words.ts';

/** Sets a field when its flag was given. */
function assign<T extends object>(flags: Flags, target: T, fields: Readonly<Record<string, keyof T>>): void {
  for (const [flag, field] of Object.entries(fields)) {
    if (flags.changed(flag)) target[field] = flags.value(flag) as T[keyof T];
  }
}

function editMap(flags: Flags, flag: string, map: Record<string, string> | undefined): Record<string, string> {
  const result = { ...map };
  for (const key of Object.keys(keyValues(flags.list(`${flag}-rm`)))) delete result[key];
  return { ...result, ...keyValues(flags.list(`${flag}-add`)) };
}

/** A sorted list of words without doubles, some added and some taken away. */
function editWords(flags: Flags, flag: string, words: readonly string[] | undefined): string[] {
  const removed = new Set(flags.list(`${flag}-rm`));
  const all = [...new Set([...(words ?? []), ...flags.list(`${flag}-add`)])];
  return all.filter((word) => !removed.has(word)).toSorted();
}

const editing = (flags: Flags, flag: string): boolean => flags.changed(`${flag}-add`, `${flag}-rm`);

function editEnvironment(flags: Flags, words: readonly string[] | undefined): string[] {
  const removed = new Set(flags.list('env-rm'));
  const byName = new Map<string, string>();
  for (const word of words ?? []) if (!removed.has(cut(word, '=')[0])) byName.set(cut(word, '=')[0], word);
  for (const word of flags.list('env-add')) byName.set(cut(word, '=')[0], word);
  return [...byName.values()];
}

function editMounts(flags: Flags, mounts: readonly Mount[] | undefined): Mount[] {
  const byTarget = new Map((mounts ?? []).map((mount) => [mount.Target, mount]));
  const added = flags.list<Mount>('mount-add');
  if (new Set(added.map((mount) => mount.Target)).size < added.length) throw new Error('duplicate mount target');
  for (const mount of added) byTarget.set(mount.Target, mount);
  for (const target of flags.list('mount-rm')) byTarget.delete(target);
  const key = (mount: Mount): string => `${mount.Source ?? ''}\0${mount.Target}`;
  return [...byTarget.values()].toSorted((a, b) => (key(a) < key(b) ? -1 : 1));
}

function portKey(port: PortConfig): string {
  return `${port.PublishedPort ?? 0}:${port.TargetPort}/${port.Protocol ?? 'tcp'}/${port.PublishMode ?? 'ingress'}`;
}

function editPorts(flags: Flags, ports: readonly PortConfig[] | undefined): PortConfig[] {
  const removed = flags.list<PortConfig>('publish-rm');
  const same = (a: PortConfig, b: PortConfig): boolean =>
    a.TargetPort === b.TargetPort &&
    (a.Protocol ?? 'tcp') === (b.Protocol ?? 'tcp') &&
    (a.PublishMode ?? 'ingress') === (b.PublishMode ?? 'ingress');
  const before = new Map((ports ?? []).map((port) => [portKey(port), port]));
  const kept = [...before.values()].filter((port) => !removed.some((other) => same(port, other)));
  const added = flags.list<PortConfig>('publish-add').filter((port) => !before.has(portKey(port)));
  return [...kept, ...added].toSorted((a, b) => (portKey(a) < portKey(b) ? -1 : 1));
}

function editHosts(flags: Flags, lines: readonly string[] | undefined): string[] {
  const removed = flags.list('host-rm').map((word) => cut(word, ':'));
  const kept = (lines ?? []).flatMap((line) => {
    const [ip = '', ...names] = line.split(/\s+/).filter((word) => word !== '');
    const left = names.filter((name) => !removed.some(([host, address]) => host === name && (address ?? ip) === ip));
    return left.length === 0 ? [] : [`${ip} ${left.join(' ')}`];
  });
  return [...new Set([...kept, ...hostLines(flags.list('host-add'))])];
}

function editCapabilities(flags: Flags, container: ContainerSpec): void {
  let adds = capabilitySet(container.CapabilityAdd);
  let drops = capabilitySet(container.CapabilityDrop);
  const toAdd = capabilitySet(flags.list('cap-add'));
  const toDrop = capabilitySet(flags.list('cap-drop'));
  if (toAdd.delete('RESET')) adds = new Set();
  if (toDrop.delete('RESET')) drops = new Set();
  // Dropping what was added takes it back; and the other way round.
  for (const name of toDrop) if (!toAdd.has(name) && !adds.delete(name)) drops.add(name);
  for (const name of toAdd) if (!drops.delete(name)) adds.add(name);
  const most = (set: Set<string>): string[] => (set.has('ALL') ? ['ALL'] : [...set].toSorted());
  container.CapabilityAdd = most(adds);
  container.CapabilityDrop = most(drops).filter((name) => !adds.has(name));
}

function editResources(flags: Flags, task: TaskSpec): void {
  const resources = (task.Resources ??= {});
  const limits = (resources.Limits ??= {});
  const reservations = (resources.Reservations ??= {});
  assign(flags, limits, { 'limit-cpu': 'NanoCPUs', 'limit-memory': 'MemoryBytes', 'limit-pids': 'Pids' });
  assign(flags, reservations, { 'reserve-cpu': 'NanoCPUs', 'reserve-memory': 'MemoryBytes' });
  if (!editing(flags, 'generic-resource')) return;
  const kind = (one: { DiscreteResourceSpec?: { Kind: string } }): string => one.DiscreteResourceSpec?.Kind ?? '';
  const byKind = new Map((reservations.GenericResources ?? []).map((one) => [kind(one), one]));
  for (const one of parseGenericResources(flags.list('generic-resource-add'))) byKind.set(kind(one), one);
  for (const name of flags.list('generic-resource-rm')) {
    if (!byKind.delete(name)) throw new Error(`could not find generic-resource \`${name}\` to remove it`);
  }
  reservations.GenericResources = [...byKind.values()];
}

function editPlacement(flags: Flags, task: TaskSpec): void {
  const placement = (task.Placement ??= {});
  if (editing(flags, 'constraint')) placement.Constraints = editWords(flags, 'constraint', placement.Constraints);
  if (flags.changed('replicas-max-per-node')) placement.MaxReplicas = flags.number('replicas-max-per-node') ?? 0;
  if (!editing(flags, 'placement-pref')) return;
  type Preference = { Spread?: { SpreadDescriptor: string } };
  const removed = flags.list<Preference>('placement-pref-rm').map((one) => one.Spread?.SpreadDescriptor);
  const kept = (placement.Preferences ?? []).filter((one) => !removed.includes(one.Spread?.SpreadDescriptor));
  placement.Preferences = [...kept, ...flags.list<Preference>('placement-pref-add')];
}

async function editNetworks(client: Client, flags: Flags, spec: ServiceSpec): Promise<void> {
  const task = spec.TaskTemplate;
  const before = (task.Networks ?? []).length > 0 ? (task.Networks ?? []) : (spec.Networks ?? []);
  delete spec.Networks;
  const removed = new Set<string>();
  for (const name of flags.list('network-rm')) removed.add(await networkId(client, name));
  const after = before.filter((network) => !removed.has(network.Target));
  for (const network of flags.list<NetworkAttachment>('network-add')) {
    const id = await networkId(client, network.Target);
    if (after.some((other) => other.Target === id)) {
      throw new Error(`service is already attached to network ${network.Target}`);
    }
    after.push({ ...network, Target: id });
  }
  task.Networks = after.toSorted((a, b) => (a.Target < b.Target ? -1 : 1));
}

type Ulimit = NonNullable<ContainerSpec['Ulimits']>[number];

function editContainer(flags: Flags, container: ContainerSpec): void {
  assign(flags, container, {
    image: 'Image',
    args: 'Args',
    entrypoint: 'Command',
    workdir: 'Dir',
    user: 'User',
    hostname: 'Hostname',
    init: 'Init',
    isolation: 'Isolation',
    'stop-grace-period': 'StopGracePeriod',
    'stop-signal': 'StopSignal',
    'oom-score-adj': 'OomScoreAdj',
    tty: 'TTY',
    'read-only': 'ReadOnly',
  });
  if (editing(flags, 'container-label')) container.Labels = editMap(flags, 'container-label', container.Labels);
  if (editing(flags, 'env')) container.Env = editEnvironment(flags, container.Env);
  if (editing(flags, 'mount')) container.Mounts = editMounts(flags, container.Mounts);
  if (editing(flags, 'sysctl')) container.Sysctls = editMap(flags, 'sysctl', container.Sysctls);
  if (editing(flags, 'group')) container.Groups = editWords(flags, 'group', container.Groups);
  if (editing(flags, 'host')) container.Hosts = editHosts(flags, container.Hosts);
  if (flags.changed('cap-add', 'cap-drop')) editCapabilities(flags, container);
  if (editing(flags, 'ulimit')) {
    const byName = new Map((container.Ulimits ?? []).map((one) => [one.Name, one]));
    for (const name of Object.keys(keyValues(flags.list('ulimit-rm')))) byName.delete(name);
    for (const one of flags.list<Ulimit>('ulimit-add')) byName.set(one.Name, one);
    container.Ulimits = [...byName.values()].toSorted((a, b) => (a.Name < b.Name ? -1 : 1));
  }
  const dns = container.DNSConfig ?? {};
  if (editing(flags, 'dns')) dns.Nameservers = editWords(flags, 'dns', dns.Nameservers);
  if (editing(flags, 'dns-option')) dns.Options = editWords(flags, 'dns-option', dns.Options);
  if (editing(flags, 'dns-search')) dns.Search = editWords(flags, 'dns-search', dns.Search);
  if (Object.keys(dns).length > 0) container.DNSConfig = dns;
  const health = healthcheck(flags, container.Healthcheck);
  if (health !== undefined) container.Healthcheck = health;
}

/** Lays the flags of `service update` over a specification. @throws Error for what cannot be */
export async function editSpec(client: Client, flags: Flags, spec: ServiceSpec): Promise<void> {
  const task = spec.TaskTemplate;
  editContainer(flags, task.ContainerSpec);
  if (editing(flags, 'label')) spec.Labels = editMap(flags, 'label', spec.Labels);
  if (hasSettings(flags)) spec.Labels = withSettings(flags, spec.Labels);
  const resourceFlags = ['limit-cpu', 'limit-memory', 'limit-pids', 'reserve-cpu', 'reserve-memory'];
  if (flags.changed(...resourceFlags) || editing(flags, 'generic-resource')) editResources(flags, task);
  const restart = restartPolicy(flags, task.RestartPolicy);
  if (restart !== undefined) task.RestartPolicy = restart;
  if (editing(flags, 'constraint') || editing(flags, 'placement-pref') || flags.changed('replicas-max-per-node')) {
    editPlacement(flags, task);
  }
  if (editing(flags, 'network')) await editNetworks(client, flags, spec);
  if (flags.changed('replicas')) {
    if (spec.Mode.Replicated === undefined) throw new Error('replicas can only be used with replicated mode');
    spec.Mode.Replicated.Replicas = flags.number('replicas') ?? 0;
  }
  if (flags.changed('max-concurrent')) {
    if (spec.Mode.ReplicatedJob === undefined)
      throw new Error('max-concurrent can only be used with replicated-job mode');
    spec.Mode.ReplicatedJob.MaxConcurrent = flags.number('max-concurrent') ?? 0;
  }
  const update = updateConfig(flags, 'update', spec.UpdateConfig);
  if (update !== undefined) spec.UpdateConfig = update;
  const rollback = updateConfig(flags, 'rollback', spec.RollbackConfig);
  if (rollback !== undefined) spec.RollbackConfig = rollback;
  const endpoint = spec.EndpointSpec ?? {};
  if (flags.changed('endpoint-mode')) endpoint.Mode = flags.string('endpoint-mode');
  if (editing(flags, 'publish')) {
    const ports = editPorts(flags, endpoint.Ports);
    endpoint.Ports = withoutAddresses(ports);
    spec.Labels = withPublishAddresses(spec.Labels ?? {}, flags.list<PortConfig>('publish-add'), ports);
  }
  if (Object.keys(endpoint).length > 0) spec.EndpointSpec = endpoint;
  if (flags.string('log-driver') !== '') {
    task.LogDriver = { Name: flags.string('log-driver'), Options: keyValues(flags.list('log-opt')) };
  }
  if (flags.bool('force')) task.ForceUpdate = (task.ForceUpdate ?? 0) + 1;
}

/**
 * Adds and removes secrets and configs by the flags; `suffix` is what the adding flag ends in (`-add` for update).
 * A config that a credential spec names is added for the runtime, and its name becomes an id.
 */
export async function editData(
  client: Client,
  flags: Flags,
  container: ContainerSpec,
  suffix: '' | '-add',
): Promise<void> {
  const removed = new Set(flags.list('secret-rm'));
  const secrets = (container.Secrets ?? []).filter((one) => !removed.has(one.SecretName ?? ''));
  secrets.push(...(await resolveData(client, 'Secret', flags.list<DataReference>(`secret${suffix}`))));
  if (secrets.length > 0 || container.Secrets !== undefined) container.Secrets = secrets;

  const removedConfigs = new Set(flags.list('config-rm'));
  const credential = flags.changed('credential-spec')
    ? (flags.value<{ Config?: string; File?: string; Registry?: string }>('credential-spec') ?? {})
    : undefined;
  const usedId = container.Privileges?.CredentialSpec?.Config;
  const configs = (container.Configs ?? []).filter((one) => {
    if (one.Runtime === undefined || one.Runtime === null) return !removedConfigs.has(one.ConfigName ?? '');
    return credential === undefined ? one.ConfigID === usedId : one.ConfigName === credential.Config;
  });
  const wanted = flags.list<DataReference>(`config${suffix}`);
  if (credential?.Config !== undefined && !configs.some((one) => one.ConfigName === credential.Config)) {
    wanted.push({ ConfigName: credential.Config, Runtime: {} });
  }
  configs.push(...(await resolveData(client, 'Config', wanted)));
  if (configs.length > 0 || container.Configs !== undefined) container.Configs = configs;
  if (credential === undefined) return;
  const id = configs.find((one) => one.ConfigName === credential.Config)?.ConfigID;
  const spec =
    Object.keys(credential).length === 0 ? null : { ...credential, ...(id === undefined ? {} : { Config: id }) };
  container.Privileges = { ...container.Privileges, CredentialSpec: spec };
}
