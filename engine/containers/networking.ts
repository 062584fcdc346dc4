import { appendFile, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { conflict, invalidArgument, notFound, ShoalError } from '../../base/index.ts';
import type { EndpointSpec, HostNetworks, SandboxResult } from '../../overlay-net/index.ts';
import {
  hostResolvConf,
  ownHostLines,
  resolvConfText,
  type EtcFiles,
  type EtcFilesRequest,
} from '../runtime/etc-files.ts';
import { containerHostname } from '../runtime/spec.ts';
import type { Container, ContainerConfig, NetworkRequest } from '../types.ts';
import { hostRoot } from '../userns/ids.ts';
import type { Parts } from './parts.ts';
import { localNetwork, networkIdOf, placed } from './swarm-networks.ts';

/** Docker's default network of containers: it names nobody, and links on it are files and environment. */
export const DEFAULT_NETWORK = 'bridge';

type SandboxNetwork = Extract<NetworkRequest, { mode: 'sandbox' }>;

/**
 * Checks what a user wants of a network against the network. Ones that are not of this host are judged when joined.
 * @throws ShoalError InvalidArgument in Docker's words.
 */
export function checkEndpoint(networks: HostNetworks, endpoint: EndpointSpec): void {
  const network = localNetwork(networks, endpoint.networkId);
  if (network === undefined) return;
  const addresses = [endpoint.address, endpoint.address6 ?? ''].filter((address) => address !== '');
  if (network.name === DEFAULT_NETWORK) {
    if (addresses.length > 0) {
      throw invalidArgument('user specified IP address is supported on user defined networks only');
    }
    if (endpoint.aliases.length > 0) {
      throw invalidArgument('network-scoped alias is supported only for containers in user defined networks');
    }
  }
  if (addresses.length > 0 && !network.userSubnet) {
    const words =
      'user specified IP address is supported only when connecting to networks with user configured subnets';
    throw invalidArgument(words);
  }
}

/** Checks the network part of a request. @throws ShoalError in Docker's words */
export function checkNetwork(config: ContainerConfig, parts: Pick<Parts, 'networks' | 'find'>): void {
  const { network } = config;
  if (network.mode === 'container') {
    if (config.hostname) throw invalidArgument('conflicting options: hostname and the network mode');
    if (config.dns.length > 0) throw invalidArgument('conflicting options: dns and the network mode');
    if (config.extraHosts.length > 0) {
      throw invalidArgument('conflicting options: custom host-to-IP mapping and the network mode');
    }
    // Not NotFound: a client would take it for the image and pull.
    if (parts.find(network.container) === undefined) throw invalidArgument(`No such container: ${network.container}`);
  }
  if (network.mode !== 'sandbox') return;
  for (const endpoint of network.endpoints) checkEndpoint(parts.networks, endpoint);
  for (const { target } of network.links ?? []) {
    const other = parts.find(target);
    if (other === undefined)
      throw invalidArgument(`could not get container for ${target}: No such container: ${target}`);
    const theirs = other.config.network;
    const named = theirs.mode === 'sandbox' && theirs.endpoints.some((e) => isDefault(parts.networks, e.networkId));
    if (named) continue;
    throw invalidArgument(`Cannot link to ${other.config.name}, as it does not belong to the default network`);
  }
}

function isDefault(networks: HostNetworks, key: string): boolean {
  return key === DEFAULT_NETWORK || localNetwork(networks, key)?.name === DEFAULT_NETWORK;
}

/**
 * @param keep addresses of an earlier life, to be taken over
 * @param namespace path of the network namespace that becomes the sandbox', where it belongs to a user namespace
 */
export async function makeSandbox(
  parts: Parts,
  id: string,
  config: ContainerConfig,
  keep: Container['endpoints'] = [],
  namespace?: string,
): Promise<SandboxResult | undefined> {
  const { network } = config;
  if (network.mode !== 'sandbox') return undefined;
  const endpoints: EndpointSpec[] = [];
  for (const endpoint of network.endpoints) {
    const former = keep.find(({ networkId, networkName }) => [networkId, networkName].includes(endpoint.networkId));
    endpoints.push(
      former === undefined
        ? await placed(parts, id, config, endpoint)
        : { ...endpoint, networkId: former.networkId, address: former.address, mac: former.mac },
    );
  }
  const spec = {
    id,
    ...(network.taskId === undefined ? {} : { taskId: network.taskId }),
    names: [config.name, id.slice(0, 12), ...(config.hostname ? [config.hostname] : [])],
    endpoints,
    ports: network.ports,
    dns: config.dns,
    dnsOptions: config.dnsOptions,
  };
  // What an earlier start left belongs to a user namespace that is gone.
  if (namespace !== undefined) await parts.networks.removeSandbox(id);
  return parts.networks.createSandbox(spec, namespace);
}

/** The network of a container that shares another's: its namespace, name and files. @throws ShoalError Conflict */
export function joinContainer(
  parts: Parts,
  reference: string,
): { namespacePath: string; hostname: string; etc: EtcFiles } {
  const owner = parts.find(reference);
  if (owner === undefined) throw notFound(`No such container: ${reference}`);
  if (owner.state === 'restarting') {
    throw conflict(`Container ${owner.id} is restarting, wait until the container is running`);
  }
  if (owner.state !== 'running' && owner.state !== 'paused') {
    throw conflict(`cannot join network of a non running container: ${owner.id}`);
  }
  const { network } = owner.config;
  // Whoever shares may itself share: all of them show the files of the first.
  if (network.mode === 'container') {
    return { ...joinContainer(parts, network.container), namespacePath: `/proc/${owner.pid}/ns/net` };
  }
  const directory = parts.store.directory(owner.id);
  return {
    namespacePath: `/proc/${owner.pid}/ns/net`,
    hostname: containerHostname(owner.id, owner.config),
    etc: {
      hostname: join(directory, 'hostname'),
      hosts: join(directory, 'hosts'),
      resolvConf: join(directory, 'resolv.conf'),
    },
  };
}

/** What the files of /etc are made from. */
export function etcRequest(
  parts: Parts,
  container: Pick<Container, 'id' | 'config'>,
  endpoints: Container['endpoints'],
  linkLines: readonly string[],
): EtcFilesRequest {
  const { id, config } = container;
  const usual = localNetwork(parts.networks, DEFAULT_NETWORK)?.gateway;
  return {
    config,
    hostname: containerHostname(id, config),
    addresses: endpoints.flatMap(({ address, address6 }) => [bare(address), ...(address6 ? [bare(address6)] : [])]),
    gateway: usual || endpoints.find((endpoint) => endpoint.gateway !== '')?.gateway,
    resolver: endpoints.some(({ networkName }) => networkName !== DEFAULT_NETWORK),
    linkLines,
    ...(config.idMapping === undefined ? {} : { owner: hostRoot(config.idMapping) }),
  };
}

const bare = (address: string): string => address.split('/')[0] ?? '';

/** Whether a container may be (dis)connected at all. @throws ShoalError PermissionDenied in Docker's words */
function connectable(container: Container): SandboxNetwork {
  const { network } = container.config;
  const refuse = (words: string): never => {
    throw new ShoalError('PermissionDenied', words);
  };
  switch (network.mode) {
    case 'sandbox':
      return network;
    case 'host':
      return refuse('container cannot be disconnected from host network or connected to host network');
    case 'none':
      return refuse(
        'container cannot be connected to multiple networks with one of the networks in private (none) mode',
      );
    case 'container':
      return refuse(
        'container sharing network namespace with another container or host cannot be connected to any other network',
      );
  }
}

const isOn = (parts: Parts, container: Container, endpoint: EndpointSpec, key: string): boolean =>
  networkIdOf(parts, container, endpoint.networkId) === networkIdOf(parts, container, key);

/** Connects a container to one more network: at once when it runs, else with its next start. @throws ShoalError */
export async function connectNetwork(
  parts: Parts,
  container: Container,
  endpoint: EndpointSpec,
  running: boolean,
): Promise<void> {
  const target = localNetwork(parts.networks, endpoint.networkId);
  if (target?.driver === 'host') {
    throw new ShoalError(
      'PermissionDenied',
      'container cannot be disconnected from host network or connected to host network',
    );
  }
  if (target?.driver === 'null' && container.config.network.mode !== 'none') {
    const words = 'container cannot be connected to multiple networks with one of the networks in private (none) mode';
    throw new ShoalError('PermissionDenied', words);
  }
  const network = connectable(container);
  checkEndpoint(parts.networks, endpoint);
  if (network.endpoints.some((present) => isOn(parts, container, present, endpoint.networkId))) {
    const name = target?.name ?? endpoint.networkId;
    const words = `endpoint with name ${container.config.name} already exists in network ${name}`;
    throw new ShoalError('PermissionDenied', words);
  }
  if (running) {
    const before = container.endpoints;
    const wanted = await placed(parts, container.id, container.config, endpoint);
    const result = await parts.networks.connectSandbox(container.id, wanted).catch((error: unknown) => {
      if (target === undefined) parts.swarm?.detach(container.id, wanted.networkId);
      throw error;
    });
    await followEtc(parts, container, before, result.endpoints);
    container.endpoints = result.endpoints;
  }
  setEndpoints(container, network, [...network.endpoints, endpoint]);
}

/** Disconnects a container from a network. @throws ShoalError PermissionDenied when it is not on it */
export async function disconnectNetwork(
  parts: Parts,
  container: Container,
  key: string,
  running: boolean,
): Promise<void> {
  const target = localNetwork(parts.networks, key);
  if (target?.driver === 'host' && container.config.network.mode === 'host') {
    throw new ShoalError(
      'PermissionDenied',
      'container cannot be disconnected from host network or connected to host network',
    );
  }
  const network = connectable(container);
  const kept = network.endpoints.filter((endpoint) => !isOn(parts, container, endpoint, key));
  if (kept.length === network.endpoints.length) {
    const words = `container ${container.id} is not connected to network ${target?.name ?? key}`;
    throw new ShoalError('PermissionDenied', words);
  }
  if (running) {
    const before = container.endpoints;
    const networkId = networkIdOf(parts, container, key);
    const result = await parts.networks.disconnectSandbox(container.id, networkId);
    if (target === undefined) parts.swarm?.detach(container.id, networkId);
    await followEtc(parts, container, before, result.endpoints);
    container.endpoints = result.endpoints;
  }
  setEndpoints(container, network, kept);
}

function setEndpoints(container: Container, network: SandboxNetwork, endpoints: readonly EndpointSpec[]): void {
  container.config = { ...container.config, network: { ...network, endpoints } };
}

/** A running container's files follow its networks; lines that others wrote into them stay. */
async function followEtc(
  parts: Parts,
  container: Container,
  before: Container['endpoints'],
  after: Container['endpoints'],
): Promise<void> {
  const directory = parts.store.directory(container.id);
  const [old, now] = [before, after].map((list) => etcRequest(parts, container, list, []));
  if (old === undefined || now === undefined) return;
  const hosts = join(directory, 'hosts');
  const [oldLines, newLines] = [ownHostLines(old), ownHostLines(now)];
  const gone = new Set(oldLines.filter((line) => !newLines.includes(line)));
  if (gone.size > 0) {
    const lines = (await readFile(hosts, 'utf8')).split('\n').filter((line) => !gone.has(line));
    // In place: the file is mounted in the container.
    await writeFile(hosts, lines.join('\n'));
  }
  const fresh = newLines.filter((line) => !oldLines.includes(line));
  if (fresh.length > 0) await appendFile(hosts, `${fresh.join('\n')}\n`);
  if (old.resolver === now.resolver) return;
  const path = join(directory, 'resolv.conf');
  const host = await hostResolvConf();
  // What the container's own programs changed is theirs.
  if ((await readFile(path, 'utf8')) === resolvConfText(old, host)) await writeFile(path, resolvConfText(now, host));
}
