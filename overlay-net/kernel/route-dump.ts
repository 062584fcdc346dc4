import { AF_INET } from '../../base/index.ts';
import { formatIp } from '../ip4.ts';
import { formatMac, parseAttributes, type MessageBuilder } from './netlink-message.ts';
import { interfaceInfo, type RouteSocket } from './netlink.ts';
import type { NamespaceState } from './ops.ts';

const RTM = { GETLINK: 18, GETADDR: 22, GETROUTE: 26, GETNEIGH: 30, GETRULE: 34 } as const;
const PF_BRIDGE = 7;
const IFF_UP = 1;
const NUD_PERMANENT = 0x80;
const NUD_NOARP = 0x40;
const NTF_MASTER = 0x04;
const RTN_UNICAST = 1;

function text(data: Buffer | undefined): string {
  return data === undefined ? '' : data.toString('utf8').replace(/\0.*$/, '');
}

function ip(data: Buffer | undefined): string {
  return data === undefined || data.length !== 4 ? '' : formatIp(data.readUInt32BE(0));
}

function u32(data: Buffer | undefined): number {
  return data === undefined ? 0 : data.readUInt32LE(0);
}

function family(value: number): (m: MessageBuilder) => void {
  return (m) => m.u8(value).u8(0).u16(0).u32(0).u32(0);
}

/** Reads all that plans are compared with from the socket's namespace. */
export function readState(socket: RouteSocket): NamespaceState {
  const state: NamespaceState = { links: [], addresses: [], routes: [], neighbours: [], fdb: [], rules: [] };
  readLinks(socket, state);
  socket.dump(RTM.GETADDR, family(AF_INET), (body) => {
    const attributes = parseAttributes(body.subarray(8));
    const address = ip(attributes.get(2) ?? attributes.get(1));
    state.addresses.push({ dev: body.readUInt32LE(4), address: `${address}/${body[1] ?? 32}` });
  });
  socket.dump(
    RTM.GETROUTE,
    (m) => m.u8(AF_INET).u8(0).u8(0).u8(0).u32(0).u32(0),
    (body) => readRoute(body, state),
  );
  socket.dump(RTM.GETNEIGH, family(AF_INET), (body) => {
    if ((body.readUInt16LE(8) & NUD_PERMANENT) === 0) return;
    const attributes = parseAttributes(body.subarray(12));
    const mac = formatMac(attributes.get(2) ?? new Uint8Array());
    state.neighbours.push({ dev: body.readUInt32LE(4), ip: ip(attributes.get(1)), mac });
  });
  readFdb(socket, state);
  socket.dump(
    RTM.GETRULE,
    (m) => m.u8(AF_INET).u8(0).u8(0).u8(0).u32(0).u32(0),
    (body) => {
      const attributes = parseAttributes(body.subarray(12));
      const table = attributes.has(15) ? u32(attributes.get(15)) : (body[4] ?? 0);
      state.rules.push({ mark: u32(attributes.get(10)), table, priority: u32(attributes.get(6)) });
    },
  );
  return state;
}

function readLinks(socket: RouteSocket, state: NamespaceState): void {
  socket.dump(
    RTM.GETLINK,
    (m) => interfaceInfo(m, 0),
    (body) => {
      const attributes = parseAttributes(body.subarray(16));
      state.links.push({
        name: text(attributes.get(3)),
        index: body.readUInt32LE(4),
        mtu: u32(attributes.get(4)),
        up: (body.readUInt32LE(8) & IFF_UP) !== 0,
      });
    },
  );
}

function readRoute(body: Buffer, state: NamespaceState): void {
  if (body[7] !== RTN_UNICAST) return;
  const attributes = parseAttributes(body.subarray(12));
  const table = attributes.has(15) ? u32(attributes.get(15)) : (body[4] ?? 0);
  const to = `${ip(attributes.get(1)) || '0.0.0.0'}/${body[1] ?? 0}`;
  state.routes.push({ to, via: ip(attributes.get(5)), dev: u32(attributes.get(4)), table });
}

function readFdb(socket: RouteSocket, state: NamespaceState): void {
  // The kernel takes an ifinfomsg here (rtnl_fdb_dump).
  socket.dump(
    RTM.GETNEIGH,
    (m) => interfaceInfo(m, 0, 0, 0, PF_BRIDGE),
    (body) => {
      if ((body.readUInt16LE(8) & (NUD_PERMANENT | NUD_NOARP)) === 0) return;
      const attributes = parseAttributes(body.subarray(12));
      const master = ((body[10] ?? 0) & NTF_MASTER) !== 0 || attributes.has(9);
      const mac = formatMac(attributes.get(2) ?? new Uint8Array());
      state.fdb.push({ dev: body.readUInt32LE(4), mac, to: ip(attributes.get(1)), self: !master, master });
    },
  );
}
