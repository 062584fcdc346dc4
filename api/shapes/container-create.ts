import { invalidArgument } from '../../base/index.ts';
import type { ContainerRequestFacts, EndpointRequestFacts, LocalNetworkFacts, PortRequestFacts } from '../ports.ts';
import { restartFromJson } from './container-update.ts';
import type { Fields } from './fields.ts';
import { hostOptionsFromJson, securityFromJson } from './host-config.ts';
import { mountsFromJson } from './mounts.ts';
import { resourcesFromJson } from './resources.ts';

const NS_PER_MS = 1e6;
const PORT_MAX = 65_535;
const PROTOCOLS = ['tcp', 'udp', 'sctp'] as const;

/** `8080`, or the range `8000-8010`; empty is 0. @throws ShoalError InvalidArgument */
function portRange(text: string): [first: number, last: number] {
  if (text === '') return [0, 0];
  const form = /^(\d+)(?:-(\d+))?$/.exec(text);
  const first = Number(form?.[1]);
  const last = Number(form?.[2] ?? form?.[1]);
  if (form === null || last > PORT_MAX || first > last) throw invalidArgument(`invalid port specification: "${text}"`);
  return [first, last];
}

/** PortBindings: each port of the container with the addresses and ports of the host that lead to it. */
function portBindings(bindings: Fields | undefined, keys: readonly string[]): PortRequestFacts[] {
  return keys.flatMap((key) => {
    const [port = '', word = 'tcp'] = key.split('/');
    const protocol = PROTOCOLS.find((known) => known === word.toLowerCase());
    if (protocol === undefined) throw invalidArgument(`invalid proto: ${word}`);
    const [targetPort] = portRange(port);
    if (targetPort === 0) throw invalidArgument(`invalid port specification: "${key}"`);
    const list = bindings?.objects(key) ?? [];
    // An empty list asks for any port of the host.
    const wanted = list.map((one) => ({ ip: one.string('HostIp'), port: one.string('HostPort') }));
    return (wanted.length === 0 ? [{ ip: '', port: '' }] : wanted).map(({ ip, port: text }) => {
      const [publishedPort, last] = portRange(text);
      const range = last > publishedPort ? { publishedPortEnd: last } : {};
      return { protocol, targetPort, publishedPort, ...range, hostIp: ip };
    });
  });
}

/** One entry of EndpointsConfig, for the network with this id or name. */
export function endpointFromJson(networkId: string, json: Fields | undefined): EndpointRequestFacts {
  const ipam = json?.object('IPAMConfig');
  const links = (json?.strings('Links') ?? []).map(linkFromText);
  const priority = json?.number('GwPriority') ?? 0;
  return {
    networkId,
    address: ipam?.string('IPv4Address') ?? '',
    address6: ipam?.string('IPv6Address') ?? '',
    mac: json?.string('MacAddress') ?? '',
    aliases: json?.strings('Aliases') ?? [],
    ...(links.length === 0 ? {} : { links }),
    ...(priority === 0 ? {} : { gwPriority: priority }),
  };
}

/** `name:alias`, or a name alone. */
function linkFromText(text: string): { target: string; alias: string } {
  const [target = '', alias] = text.split(':');
  if (target === '') throw invalidArgument(`bad format for links: ${text}`);
  return { target, alias: alias || target.replace(/^\//, '') };
}

/** Ids stay valid when a network is made again under the same name. */
const idOf = (networks: readonly LocalNetworkFacts[], key: string): string => {
  if (key === 'default' || key === '') return 'bridge';
  return networks.find((network) => network.id === key || network.name === key)?.name ?? key;
};

function networkFromJson(
  host: Fields | undefined,
  json: Fields,
  networks: readonly LocalNetworkFacts[],
): { network: ContainerRequestFacts['network']; warnings: string[] } {
  const mode = host?.string('NetworkMode') || 'default';
  const bindings = host?.object('PortBindings');
  const ports = portBindings(bindings, bindings?.keys() ?? []);
  const links = (host?.strings('Links') ?? []).map(linkFromText);
  if (mode === 'host' || mode === 'none') {
    if (mode === 'host' && links.length > 0) {
      const words = "conflicting options: host type networking can't be used with links";
      throw invalidArgument(`${words}. This would result in undefined behavior`);
    }
    const lost = mode === 'host' && ports.length > 0;
    const warnings = lost ? ['Published ports are discarded when using host network mode'] : [];
    return { network: { mode }, warnings };
  }
  if (mode.startsWith('container:')) {
    if (ports.length > 0 || host?.bool('PublishAllPorts') === true) {
      throw invalidArgument('conflicting options: port publishing and the container type network mode');
    }
    if (links.length > 0) {
      const words = "conflicting options: container type network can't be used with links";
      throw invalidArgument(`${words}. This would result in undefined behavior`);
    }
    if ((json.object('ExposedPorts')?.keys() ?? []).length > 0) {
      throw invalidArgument('conflicting options: port exposing and the container type network mode');
    }
    return { network: { mode: 'container', container: mode.slice('container:'.length) }, warnings: [] };
  }
  const own = json.object('NetworkingConfig')?.object('EndpointsConfig');
  const main = idOf(networks, mode);
  const byName = new Map((own?.keys() ?? []).map((key) => [idOf(networks, key), own?.object(key)]));
  const names = [main, ...[...byName.keys()].filter((name) => name !== main)];
  // Clients before API 1.44 give one address for the container.
  const mac = json.string('MacAddress');
  const endpoints = names.map((name) => {
    const endpoint = endpointFromJson(name, byName.get(name));
    return name === main && endpoint.mac === '' ? { ...endpoint, mac } : endpoint;
  });
  const legacy = main === 'bridge' && links.length > 0 ? { links } : {};
  return { network: { mode: 'sandbox', endpoints, ports, ...legacy, userMode: mode }, warnings: [] };
}

function healthCheck(json: Fields): Pick<ContainerRequestFacts, 'healthCheck'> {
  const health = json.object('Healthcheck');
  if (health === undefined) return {};
  const ms = (name: string): number => health.number(name) / NS_PER_MS;
  return {
    healthCheck: {
      test: health.strings('Test'),
      intervalMs: ms('Interval'),
      timeoutMs: ms('Timeout'),
      startPeriodMs: ms('StartPeriod'),
      startIntervalMs: ms('StartInterval'),
      retries: health.number('Retries'),
    },
  };
}

/** Members of Config that a task of a swarm does not have. */
function streams(json: Fields): Partial<ContainerRequestFacts> {
  const volumes = json.object('Volumes')?.keys() ?? [];
  const shell = json.strings('Shell');
  return {
    attachStdin: json.bool('AttachStdin'),
    attachStdout: json.bool('AttachStdout'),
    attachStderr: json.bool('AttachStderr'),
    stdinOnce: json.bool('StdinOnce'),
    ...(volumes.length === 0 ? {} : { volumes }),
    ...(shell.length === 0 ? {} : { shell }),
  };
}

const text = <K extends string>(key: K, value: string): Partial<Record<K, string>> =>
  (value === '' ? {} : { [key]: value }) as Partial<Record<K, string>>;

/** Body of POST /containers/create. @throws ShoalError InvalidArgument */
export function containerFromJson(
  name: string,
  json: Fields,
  networks: readonly LocalNetworkFacts[],
): { config: ContainerRequestFacts; warnings: string[] } {
  const host = json.object('HostConfig');
  const { network, warnings } = networkFromJson(host, json, networks);
  const log = host?.object('LogConfig');
  const exposed = [...(json.object('ExposedPorts')?.keys() ?? []), ...(host?.object('PortBindings')?.keys() ?? [])];
  const grace = json.optionalNumber('StopTimeout');
  return {
    warnings,
    config: {
      name,
      image: json.string('Image'),
      ...(json.has('Entrypoint') ? { entrypoint: json.words('Entrypoint') } : {}),
      ...(json.has('Cmd') ? { cmd: json.words('Cmd') } : {}),
      env: json.strings('Env'),
      ...text('workingDir', json.string('WorkingDir')),
      ...text('user', json.string('User')),
      ...text('hostname', json.string('Hostname')),
      ...text('domainname', json.string('Domainname')),
      ...text('stopSignal', json.string('StopSignal')),
      ...(grace === undefined ? {} : { stopGraceMs: grace * 1000 }),
      ...(host?.strings('GroupAdd').length ? { groups: host.strings('GroupAdd') } : {}),
      exposedPorts: [...new Set(exposed)],
      publishAll: host?.bool('PublishAllPorts') ?? false,
      labels: json.stringMap('Labels'),
      tty: json.bool('Tty'),
      openStdin: json.bool('OpenStdin'),
      readOnlyRootfs: host?.bool('ReadonlyRootfs') ?? false,
      init: host?.optionalBool('Init') ?? false,
      mounts: mountsFromJson(host),
      files: [],
      resources: resourcesFromJson(host),
      capAdd: host?.strings('CapAdd') ?? [],
      capDrop: host?.strings('CapDrop') ?? [],
      privileged: host?.bool('Privileged') ?? false,
      ...securityFromJson(host),
      ...hostOptionsFromJson(host),
      ...streams(json),
      sysctls: host?.stringMap('Sysctls') ?? {},
      extraHosts: host?.strings('ExtraHosts') ?? [],
      dns: host?.strings('Dns') ?? [],
      dnsSearch: host?.strings('DnsSearch') ?? [],
      dnsOptions: host?.strings('DnsOptions') ?? [],
      network,
      ...healthCheck(json),
      logDriver: { type: log?.string('Type') ?? '', config: log?.stringMap('Config') ?? {} },
      restart: restartFromJson(host?.object('RestartPolicy')) ?? { name: 'no', maximumRetryCount: 0 },
      autoRemove: host?.bool('AutoRemove') ?? false,
    },
  };
}
