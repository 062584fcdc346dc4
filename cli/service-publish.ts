/**
 * Published ports that are bound to one address of the hosts (`--publish published=…,target=…,ip=ADDRESS`). Swarm's
 * ports have no place for it, so it travels as the label `shoal.publish.ip`: `PORT/PROTOCOL=ADDRESS`, comma separated.
 */
import type { PortConfig } from './objects.ts';

const LABEL = 'shoal.publish.ip';

type Labels = Record<string, string>;

const keyOf = (port: PortConfig): string => `${port.PublishedPort ?? 0}/${port.Protocol ?? 'tcp'}`;

/** The entries of the label by port; an address for all ports stands under ''. */
function entries(labels: Labels | undefined): Map<string, string> {
  const found = new Map<string, string>();
  for (const part of (labels?.[LABEL] ?? '').split(',').map((one) => one.trim())) {
    const form = /^(?:(\d+)(?:\/(\w+))?=)?(.+)$/.exec(part);
    if (form !== null) found.set(form[1] === undefined ? '' : `${form[1]}/${form[2] ?? 'tcp'}`, form[3] ?? '');
  }
  return found;
}

/** Ports as the API takes them: the address is not one of their fields. */
export function withoutAddresses(ports: readonly PortConfig[]): PortConfig[] {
  return ports.map(({ HostIP: _address, ...port }) => port);
}

/**
 * The labels of a service whose published ports change.
 * @param given ports that flags name, with the addresses that they bind to; one without loses the address it had.
 * @param ports all ports that the service will have; what the label says of others goes.
 * @throws Error when a port that is bound to an address has no number of its own
 */
export function withPublishAddresses(
  labels: Labels,
  given: readonly PortConfig[],
  ports: readonly PortConfig[],
): Labels {
  const addresses = entries(labels);
  const before = [...addresses].join();
  for (const port of given) {
    if (port.HostIP === undefined) {
      addresses.delete(keyOf(port));
      continue;
    }
    if (port.PublishedPort === undefined) throw new Error('ip= needs a published port: add published=PORT');
    addresses.set(keyOf(port), port.HostIP);
  }
  const present = new Set(ports.map(keyOf));
  for (const key of addresses.keys()) if (key !== '' && !present.has(key)) addresses.delete(key);
  if ([...addresses].join() === before) return labels;
  const { [LABEL]: _former, ...rest } = labels;
  const text = [...addresses].map(([key, address]) => (key === '' ? address : `${key}=${address}`)).join(',');
  return text === '' ? rest : { ...rest, [LABEL]: text };
}
