import { existsSync } from 'node:fs';
import { AF_INET, AF_INET6 } from '../../base/index.ts';
import { formatBytes } from '../ip.ts';
import { formatMac, parseAttributes, type MessageBuilder } from './netlink-message.ts';
import { interfaceInfo, type RouteSocket } from './netlink.ts';
import type { LinkInfo, NamespaceState } from './ops.ts';

const RTM = { GETLINK: 18, GETADDR: 22, GETROUTE: 26, GETNEIGH: 30, GETRULE: 34 } as const;
const PF_BRIDGE = 7;
const IFF_UP = 1;
const NUD_PERMANENT = 0x80;
const NUD_NOARP = 0x40;
const NTF_MASTER = 0x04;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RTPROT_BOOT = 3;

function text(data: Buffer | undefined): string {
  return data === undefined ? '' : data.toString('utf8').replace(/\0.*$/, '');
}

function ip(data: Buffer | undefined): string {
  return data === undefined ? '' : formatBytes(data);
}

function u32(data: Buffer | undefined): number {
  return data === undefined ? 0 : data.readUInt32LE(0);
}

function family(value: number): (m: MessageBuilder) => void {
  return (m) => m.u8(value).u8(0).u16(0).u32(0).u32(0);
}

/** Dumps are asked for one after the other; none depends on the answers to those before. */
export type Dumper = Pick<RouteSocket, 'dump'>;

/** Reads all that plans are compared with from the socket's namespace. */
export function readState(socket: Dumper): NamespaceState {
  const state: NamespaceState = { links: [], addresses: [], routes: [], neighbours: [], fdb: [], rules: [] };
  readLinks(socket, state);
  readFamily(socket, state, AF_INET);
  if (hasIp6()) readFamily(socket, state, AF_INET6);
  readFdb(socket, state);
  return state;
}

let knowsIp6: boolean | undefined;

/** Whether this kernel has IPv6; one without would refuse to dump its rules. */
function hasIp6(): boolean {
  return (knowsIp6 ??= existsSync('/proc/net/if_inet6'));
}

/** Addresses, routes, neighbours and rules of one family. */
function readFamily(socket: Dumper, state: NamespaceState, wanted: number): void {
  socket.dump(RTM.GETADDR, family(wanted), (body) => {
    const attributes = parseAttributes(body.subarray(8));
    const address = ip(attributes.get(2) ?? attributes.get(1));
    state.addresses.push({ dev: body.readUInt32LE(4), address: `${address}/${body[1] ?? 0}` });
  });
  socket.dump(RTM.GETROUTE, family(wanted), (body) => readRoute(body, state));
  socket.dump(RTM.GETNEIGH, family(wanted), (body) => {
    if ((body.readUInt16LE(8) & NUD_PERMANENT) === 0) return;
    const attributes = parseAttributes(body.subarray(12));
    const mac = formatMac(attributes.get(2) ?? new Uint8Array());
    state.neighbours.push({ dev: body.readUInt32LE(4), ip: ip(attributes.get(1)), mac });
  });
  socket.dump(RTM.GETRULE, family(wanted), (body) => {
    const attributes = parseAttributes(body.subarray(12));
    const table = attributes.has(15) ? u32(attributes.get(15)) : (body[4] ?? 0);
    const rule = { mark: u32(attributes.get(10)), table, priority: u32(attributes.get(6)) };
    state.rules.push(wanted === AF_INET6 ? { family: 6, ...rule } : rule);
  });
}

const IFLA = { ADDRESS: 1, MASTER: 10, LINKINFO: 18 } as const;
const IFLA_INFO = { DATA: 2, SLAVE_KIND: 4, SLAVE_DATA: 5 } as const;
const IFLA_BRPORT = { MODE: 4, ISOLATED: 33 } as const;
const IFLA_VXLAN = { ID: 1, LOCAL: 4, PORT: 15, LOCAL6: 17 } as const;

/** What plans ask of a link beside its name. */
function linkDetails(attributes: Map<number, Buffer>, link: LinkInfo): void {
  const address = attributes.get(IFLA.ADDRESS);
  if (address !== undefined) link.mac = formatMac(address);
  const info = parseAttributes(attributes.get(IFLA.LINKINFO) ?? Buffer.alloc(0));
  const kind = text(info.get(1));
  const data = parseAttributes(info.get(IFLA_INFO.DATA) ?? Buffer.alloc(0));
  if (kind === 'vxlan') {
    const port = data.get(IFLA_VXLAN.PORT)?.readUInt16BE(0) ?? 0;
    const local = ip(data.get(IFLA_VXLAN.LOCAL) ?? data.get(IFLA_VXLAN.LOCAL6));
    link.tunnel = { vni: u32(data.get(IFLA_VXLAN.ID)), local, port };
  }
  if (text(info.get(IFLA_INFO.SLAVE_KIND)) !== 'bridge') return;
  const port = parseAttributes(info.get(IFLA_INFO.SLAVE_DATA) ?? Buffer.alloc(0));
  link.hairpin = (port.get(IFLA_BRPORT.MODE)?.[0] ?? 0) !== 0;
  link.isolated = (port.get(IFLA_BRPORT.ISOLATED)?.[0] ?? 0) !== 0;
}

function readLinks(socket: Dumper, state: NamespaceState): void {
  const names = new Map<number, string>();
  const masters: [LinkInfo, number][] = [];
  socket.dump(
    RTM.GETLINK,
    (m) => interfaceInfo(m, 0),
    (body) => {
      const attributes = parseAttributes(body.subarray(16));
      const link: LinkInfo = {
        name: text(attributes.get(3)),
        index: body.readUInt32LE(4),
        mtu: u32(attributes.get(4)),
        up: (body.readUInt32LE(8) & IFF_UP) !== 0,
        master: '',
      };
      linkDetails(attributes, link);
      names.set(link.index, link.name);
      const master = u32(attributes.get(IFLA.MASTER));
      // A master may come after its ports.
      for (const [port, index] of masters) if (index === link.index) port.master = link.name;
      if (master !== 0) {
        masters.push([link, master]);
        link.master = names.get(master) ?? '';
      }
      state.links.push(link);
    },
  );
}

function readRoute(body: Buffer, state: NamespaceState): void {
  // Of the routes to the host itself, those that the kernel did not make.
  if (body[7] !== RTN_UNICAST && !(body[7] === RTN_LOCAL && body[5] === RTPROT_BOOT)) return;
  const attributes = parseAttributes(body.subarray(12));
  const table = attributes.has(15) ? u32(attributes.get(15)) : (body[4] ?? 0);
  const any = body[0] === AF_INET6 ? '::' : '0.0.0.0';
  const to = `${ip(attributes.get(1)) || any}/${body[1] ?? 0}`;
  state.routes.push({ to, via: ip(attributes.get(5)), dev: u32(attributes.get(4)), table });
}

function readFdb(socket: Dumper, state: NamespaceState): void {
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
