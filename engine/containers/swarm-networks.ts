import type { EndpointSpec, HostNetworks, LocalNetwork } from '../../overlay-net/index.ts';
import type { Container, ContainerConfig } from '../types.ts';
import type { Parts } from './parts.ts';

/** A network of this host by id or name. */
export function localNetwork(networks: HostNetworks, key: string): LocalNetwork | undefined {
  const all = networks.localNetworks();
  return all.find((network) => network.id === key) ?? all.find((network) => network.name === key);
}

/**
 * An endpoint as the host's networks want it: on a network of the swarm, with the address that the managers gave. A
 * task's endpoints have theirs.
 * @throws ShoalError as `SwarmNetworks.attach`
 */
export async function placed(
  parts: Pick<Parts, 'networks' | 'swarm'>,
  id: string,
  config: Pick<ContainerConfig, 'name' | 'network'>,
  endpoint: EndpointSpec,
): Promise<EndpointSpec> {
  const { network } = config;
  const isTask = network.mode === 'sandbox' && network.taskId !== undefined && endpoint.address !== '';
  if (isTask || localNetwork(parts.networks, endpoint.networkId) !== undefined) return endpoint;
  // Without a swarm the host's networks say that there is none.
  if (parts.swarm === undefined) return endpoint;
  const place = await parts.swarm.attach({
    network: endpoint.networkId,
    containerId: id,
    names: [...new Set([config.name, ...endpoint.aliases, id.slice(0, 12)])],
    addresses: [endpoint.address, endpoint.address6 ?? ''].filter((address) => address !== ''),
  });
  return { ...endpoint, ...place };
}

/** The id of a network by name, id, or what a running container knows of it. */
export function networkIdOf(parts: Pick<Parts, 'networks'>, container: Container, key: string): string {
  const local = localNetwork(parts.networks, key);
  const joined = container.endpoints.find(({ networkId, networkName }) => [networkId, networkName].includes(key));
  return local?.id ?? joined?.networkId ?? key;
}
