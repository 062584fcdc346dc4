import { PortConfig_Protocol } from './gen/types.ts';

/** A protocol of ports as people write it. */
export type ProtocolName = 'tcp' | 'udp' | 'sctp';

export const PROTOCOL_NAMES: Readonly<Record<PortConfig_Protocol, ProtocolName>> = {
  [PortConfig_Protocol.TCP]: 'tcp',
  [PortConfig_Protocol.UDP]: 'udp',
  [PortConfig_Protocol.SCTP]: 'sctp',
};

export const PROTOCOLS_BY_NAME = {
  tcp: PortConfig_Protocol.TCP,
  udp: PortConfig_Protocol.UDP,
  sctp: PortConfig_Protocol.SCTP,
} as const satisfies Record<ProtocolName, PortConfig_Protocol>;
