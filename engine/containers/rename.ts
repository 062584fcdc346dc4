import type { ContainerConfig } from '../types.ts';
import type { ContainerUnit } from './unit.ts';

type Link = { target: string; alias: string };

/** A configuration that names a container by its old name, with the new one; undefined when it does not. */
export function followRename(config: ContainerConfig, oldName: string, name: string): ContainerConfig | undefined {
  const { network } = config;
  const isOld = (reference: string): boolean => reference.replace(/^\//, '') === oldName;
  if (network.mode === 'container') {
    return isOld(network.container) ? { ...config, network: { ...network, container: name } } : undefined;
  }
  if (network.mode !== 'sandbox') return undefined;
  const stale = (links: readonly Link[] | undefined): boolean => links?.some(({ target }) => isOld(target)) === true;
  if (!stale(network.links) && !network.endpoints.some(({ links }) => stale(links))) return undefined;
  const fresh = (links: readonly Link[]): Link[] => {
    return links.map((link) => (isOld(link.target) ? { ...link, target: name } : link));
  };
  const endpoints = network.endpoints.map((endpoint) => {
    return endpoint.links === undefined ? endpoint : { ...endpoint, links: fresh(endpoint.links) };
  });
  const links = network.links === undefined ? {} : { links: fresh(network.links) };
  return { ...config, network: { ...network, endpoints, ...links } };
}

/** Gives a container another name, which has been reserved for it; others that name it follow. */
export async function renameUnit(unit: ContainerUnit, name: string, all: readonly ContainerUnit[]): Promise<void> {
  const { record } = unit;
  const { parts, container } = record;
  const oldName = container.config.name;
  await unit.alone(async (running) => {
    container.config = { ...container.config, name };
    const { network } = container.config;
    if (running && network.mode === 'sandbox') await parts.networks.renameSandbox(container.id, oldName, name);
  });
  for (const other of all) {
    if (other === unit || followRename(other.container.config, oldName, name) === undefined) continue;
    await other.alone(async () => {
      other.container.config = followRename(other.container.config, oldName, name) ?? other.container.config;
    });
  }
  record.event('rename', { oldName: `/${oldName}` });
}

/** Takes a legacy link out of the container that has it. @returns whether there was one. */
export async function dropLink(parent: ContainerUnit, alias: string): Promise<boolean> {
  let found = false;
  await parent.alone(async () => {
    const { container } = parent;
    const { network } = container.config;
    if (network.mode !== 'sandbox') return;
    const links = (network.links ?? []).filter((link) => link.alias !== alias);
    found = links.length < (network.links ?? []).length;
    container.config = { ...container.config, network: { ...network, links } };
  });
  return found;
}
