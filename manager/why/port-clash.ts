import { PortConfig_PublishMode, PROTOCOL_NAMES, type PortClash, type Service } from '../../proto/index.ts';
import { sharesAddress } from '../allocator/index.ts';
import type { ReadView } from '../store/types.ts';
import { hostname } from './words.ts';

/** Clashes that one text names. */
const NAMED_MAX = 3;

/** A node where something else has a port of the routing mesh. */
export interface NodeClash extends PortClash {
  nodeId: string;
}

/** All that nodes say of ports of the routing mesh that something else there has too. */
export function portClashes(view: ReadView): NodeClash[] {
  return view
    .list('node')
    .flatMap((node) => (node.description?.port_clashes ?? []).map((clash) => ({ ...clash, nodeId: node.id })));
}

/** `8080/tcp`. */
export function portName({ port, protocol }: Pick<PortClash, 'port' | 'protocol'>): string {
  return `${port}/${PROTOCOL_NAMES[protocol]}`;
}

/** What is told of a service whose published ports something else has on some nodes; undefined when nothing has. */
export function clashText(view: ReadView, service: Service, clashes: readonly NodeClash[]): string | undefined {
  const ports = (service.endpoint?.ports ?? []).filter((port) => {
    return port.publish_mode === PortConfig_PublishMode.INGRESS && port.published_port !== 0;
  });
  const found = clashes.filter((clash) =>
    ports.some((port) => {
      const same = port.protocol === clash.protocol && port.published_port === clash.port;
      return same && sharesAddress(port.host_ip, clash.host_ip);
    }),
  );
  if (found.length === 0) return undefined;
  const some = found.slice(0, NAMED_MAX).map((clash) => {
    return `port ${portName(clash)} is also held by ${clash.holder} on node ${hostname(view, clash.nodeId)}`;
  });
  const more = found.length > NAMED_MAX ? `, and ${found.length - NAMED_MAX} more` : '';
  return `${some.join(', ')}${more}: only one of the two is reached there; stop the other or publish another port`;
}
