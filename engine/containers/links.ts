import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { conflict, notFound } from '../../base/index.ts';
import { containerHostname } from '../runtime/spec.ts';
import type { Container, ContainerConfig } from '../types.ts';
import { DEFAULT_NETWORK } from './networking.ts';
import type { Parts } from './parts.ts';

type Link = NonNullable<Extract<ContainerConfig['network'], { mode: 'sandbox' }>['links']>[number];

function linksOf({ network }: ContainerConfig): readonly Link[] {
  return network.mode === 'sandbox' ? (network.links ?? []) : [];
}

/** A container's address on the default network; undefined when it has none there. */
function defaultAddress(container: Container): string | undefined {
  return container.endpoints.find(({ networkName }) => networkName === DEFAULT_NETWORK)?.address.split('/')[0];
}

/** Containers that a container of the default network is linked to: lines for its hosts file and its environment. */
export function linkFacts(parts: Parts, config: ContainerConfig): { lines: string[]; env: string[] } {
  const facts = { lines: [] as string[], env: [] as string[] };
  for (const { target, alias } of linksOf(config)) {
    const other = parts.find(target);
    if (other === undefined) throw notFound(`could not get container for ${target}: No such container: ${target}`);
    const address = defaultAddress(other);
    if (address === undefined) {
      throw conflict(`Cannot link to a non running container: /${other.config.name} AS /${config.name}/${alias}`);
    }
    facts.lines.push(`${address}\t${namesOf(alias, other)}`);
    facts.env.push(...linkEnv(config.name, alias, address, other));
  }
  return facts;
}

/** The variables by which a legacy link tells of the other container. */
function linkEnv(ownName: string, alias: string, address: string, other: Container): string[] {
  const prefix = alias.replaceAll('-', '_').toUpperCase();
  const env = [`${prefix}_NAME=/${ownName}/${alias}`];
  const exposed = (other.config.exposedPorts ?? []).map((text) => {
    const [port = '', protocol = 'tcp'] = text.split('/');
    return { port: Number(port), protocol };
  });
  const sorted = exposed.toSorted((a, b) => a.port - b.port || (a.protocol < b.protocol ? 1 : -1));
  for (const [index, { port, protocol }] of sorted.entries()) {
    const url = `${protocol}://${address}:${port}`;
    if (index === 0) env.push(`${prefix}_PORT=${url}`);
    const name = `${prefix}_PORT_${port}_${protocol.toUpperCase()}`;
    env.push(`${name}=${url}`, `${name}_ADDR=${address}`, `${name}_PORT=${port}`, `${name}_PROTO=${protocol}`);
  }
  for (const entry of other.config.env) {
    const [name, value] = [entry.slice(0, entry.indexOf('=')), entry.slice(entry.indexOf('=') + 1)];
    if (entry.includes('=') && !['HOME', 'PATH', 'HOSTNAME'].includes(name)) env.push(`${prefix}_ENV_${name}=${value}`);
  }
  return env;
}

/** What the hosts file of a linking container has behind the address. */
function namesOf(alias: string, other: Container): string {
  return [...new Set([alias, containerHostname(other.id, other.config), other.config.name])].join(' ');
}

/** Whether a container is linked to another by its hosts file. */
export function linksTo(parts: Pick<Parts, 'find'>, config: ContainerConfig, otherId: string): boolean {
  return linksOf(config).some(({ target }) => parts.find(target)?.id === otherId);
}

/**
 * The hosts file of a running container follows a container that it is linked to and that has another address now.
 * Lines that the container's own programs took out stay out.
 */
export async function followLink(parts: Parts, container: Container, otherId: string): Promise<void> {
  const other = parts.find(otherId);
  const address = other === undefined ? undefined : defaultAddress(other);
  if (other === undefined || address === undefined) return;
  const aliases = new Set(
    linksOf(container.config)
      .filter(({ target }) => parts.find(target)?.id === otherId)
      .map(({ alias }) => alias),
  );
  const path = join(parts.store.directory(container.id), 'hosts');
  const before = await readFile(path, 'utf8');
  const lines = before.split('\n').map((line) => {
    // The alias comes first; what stands behind it may be an older name of the other container.
    const [, alias = ''] = /^\S+\t(\S+)/.exec(line) ?? [];
    return aliases.has(alias) ? `${address}\t${namesOf(alias, other)}` : line;
  });
  const after = lines.join('\n');
  // In place: the file is mounted in the container.
  if (after !== before) await writeFile(path, after);
}
