import { AF_INET, AF_INET6, closeFd, openReadOnly, unreachable } from '../../base/index.ts';
import { familyOf, ipBytes, maskLength } from '../ip.ts';
import { macBytes, type MessageBuilder } from './netlink-message.ts';
import {
  ERRNO,
  interfaceInfo,
  NetlinkError,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  type RouteSocket,
} from './netlink.ts';
import type { Op } from './ops.ts';

const RTM = {
  NEWLINK: 16,
  DELLINK: 17,
  NEWADDR: 20,
  DELADDR: 21,
  NEWROUTE: 24,
  DELROUTE: 25,
  NEWNEIGH: 28,
  DELNEIGH: 29,
  NEWRULE: 32,
  DELRULE: 33,
} as const;
const IFLA = {
  ADDRESS: 1,
  IFNAME: 3,
  MTU: 4,
  LINK: 5,
  MASTER: 10,
  LINKINFO: 18,
  NET_NS_FD: 28,
  INFO_KIND: 1,
  INFO_DATA: 2,
};
const IFLA_INFO_SLAVE_KIND = 4;
const IFLA_INFO_SLAVE_DATA = 5;
const IFLA_BRPORT_MODE = 4;
const IFLA_BRPORT_ISOLATED = 33;
const IFLA_BR = { FORWARD_DELAY: 1, MCAST_SNOOPING: 23 };
const VETH_INFO_PEER = 1;
const IFLA_MACVLAN_MODE = 1;
const MACVLAN_MODE_BRIDGE = 4;
const VXLAN = { ID: 1, LOCAL: 4, LEARNING: 7, PROXY: 11, PORT: 15, LOCAL6: 17 };
const IFF_UP = 1;
const IFA_F_NODAD = 0x02;
const PF_BRIDGE = 7;
const NUD_REACHABLE = 0x02;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;
const NTF_MASTER = 0x04;
const RT_TABLE_MAIN = 254;
const RTPROT_BOOT = 3;
const RTN_UNICAST = 1;
const RTN_LOCAL = 2;
const RT_SCOPE_UNIVERSE = 0;
const RT_SCOPE_LINK = 253;
const RT_SCOPE_HOST = 254;
const RTNH_F_ONLINK = 4;
const FR_ACT_TO_TBL = 1;
const ABSENT = [ERRNO.ENODEV, ERRNO.ENOENT, ERRNO.ESRCH, ERRNO.EADDRNOTAVAIL];

function addressFamily(address: string): number {
  return familyOf(address) === 6 ? AF_INET6 : AF_INET;
}

function needIndex(socket: RouteSocket, name: string, op: Op): number {
  const index = socket.indexOf(name);
  if (index === undefined) throw new NetlinkError(`${op.kind} ${name}`, ERRNO.ENODEV, 'no such link');
  return index;
}

/** Queues (or sends) one op on the socket's namespace. Sysctls are not its business. @throws NetlinkError */
export function queueOp(socket: RouteSocket, op: Exclude<Op, { kind: 'sysctl' }>): void {
  switch (op.kind) {
    case 'bridge':
      return addBridge(socket, op);
    case 'veth':
      return addVeth(socket, op);
    case 'vxlan':
      return addVxlan(socket, op);
    case 'macvlan':
      return addMacvlan(socket, op);
    case 'link':
      return setLink(socket, op);
    case 'link-del':
      return deleteLink(socket, op);
    case 'addr':
      return changeAddress(socket, op);
    case 'route':
      return changeRoute(socket, op);
    case 'rule':
      return changeRule(socket, op);
    case 'neigh':
      return changeNeighbour(socket, op);
    case 'fdb':
      return changeFdb(socket, op);
    default:
      return unreachable(op);
  }
}

type Of<K extends Op['kind']> = Extract<Op, { kind: K }>;

function addBridge(socket: RouteSocket, op: Of<'bridge'>): void {
  socket.queue(`bridge ${op.name}`, RTM.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [ERRNO.EEXIST], (m) => {
    interfaceInfo(m, 0, IFF_UP, IFF_UP);
    m.attributeText(IFLA.IFNAME, op.name);
    if (op.mac !== undefined) m.attribute(IFLA.ADDRESS, macBytes(op.mac));
    if (op.mtu !== undefined) m.attributeU32(IFLA.MTU, op.mtu);
    m.nested(IFLA.LINKINFO, () => {
      m.attributeText(IFLA.INFO_KIND, 'bridge');
      m.nested(IFLA.INFO_DATA, () => {
        m.attributeU32(IFLA_BR.FORWARD_DELAY, 0).attributeU8(IFLA_BR.MCAST_SNOOPING, 0);
      });
    });
  });
}

/** A bridge's port stays down: what is set before it is up follows. */
function addVeth(socket: RouteSocket, op: Of<'veth'>): void {
  const master = op.master === undefined ? undefined : needIndex(socket, op.master, op);
  const namespace = openReadOnly(op.peer.namespace);
  try {
    socket.queue(`veth ${op.name}`, RTM.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [ERRNO.EEXIST], (m) => {
      interfaceInfo(m, 0, master === undefined ? IFF_UP : 0, IFF_UP);
      m.attributeText(IFLA.IFNAME, op.name).attributeU32(IFLA.MTU, op.mtu);
      if (master !== undefined) m.attributeU32(IFLA.MASTER, master);
      m.nested(IFLA.LINKINFO, () => {
        m.attributeText(IFLA.INFO_KIND, 'veth');
        m.nested(IFLA.INFO_DATA, () => {
          m.nested(VETH_INFO_PEER, () => {
            // The peer cannot be brought up before both ends exist (ENOTCONN).
            interfaceInfo(m, 0);
            m.attributeText(IFLA.IFNAME, op.peer.name).attributeU32(IFLA.MTU, op.mtu);
            m.attributeU32(IFLA.NET_NS_FD, namespace);
            if (op.peer.mac !== undefined) m.attribute(IFLA.ADDRESS, macBytes(op.peer.mac));
          });
        });
      });
    });
    // The descriptor must be open while the kernel reads the message.
    socket.flush();
  } finally {
    closeFd(namespace);
  }
}

function addVxlan(socket: RouteSocket, op: Of<'vxlan'>): void {
  const namespace = openReadOnly(op.namespace);
  try {
    socket.queue(`vxlan ${op.vni}`, RTM.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [], (m) => {
      interfaceInfo(m, 0);
      m.attributeText(IFLA.IFNAME, op.name).attributeU32(IFLA.MTU, op.mtu).attributeU32(IFLA.NET_NS_FD, namespace);
      if (op.mac !== undefined) m.attribute(IFLA.ADDRESS, macBytes(op.mac));
      m.nested(IFLA.LINKINFO, () => {
        m.attributeText(IFLA.INFO_KIND, 'vxlan');
        m.nested(IFLA.INFO_DATA, () => {
          m.attributeU32(VXLAN.ID, op.vni)
            .attribute(familyOf(op.local) === 6 ? VXLAN.LOCAL6 : VXLAN.LOCAL, ipBytes(op.local))
            .attributeU8(VXLAN.LEARNING, 0)
            .attributeU8(VXLAN.PROXY, op.proxy ? 1 : 0)
            .attributeU16be(VXLAN.PORT, op.port);
        });
      });
    });
    socket.flush();
  } finally {
    closeFd(namespace);
  }
}

function addMacvlan(socket: RouteSocket, op: Of<'macvlan'>): void {
  const parent = needIndex(socket, op.parent, op);
  const namespace = openReadOnly(op.namespace);
  try {
    socket.queue(`macvlan ${op.name} on ${op.parent}`, RTM.NEWLINK, NLM_F_CREATE | NLM_F_EXCL, [], (m) => {
      interfaceInfo(m, 0);
      m.attributeText(IFLA.IFNAME, op.name).attributeU32(IFLA.LINK, parent).attributeU32(IFLA.NET_NS_FD, namespace);
      if (op.mac !== undefined) m.attribute(IFLA.ADDRESS, macBytes(op.mac));
      m.nested(IFLA.LINKINFO, () => {
        m.attributeText(IFLA.INFO_KIND, 'macvlan');
        m.nested(IFLA.INFO_DATA, () => m.attributeU32(IFLA_MACVLAN_MODE, MACVLAN_MODE_BRIDGE));
      });
    });
    // The descriptor must be open while the kernel reads the message.
    socket.flush();
  } finally {
    closeFd(namespace);
  }
}

function setLink(socket: RouteSocket, op: Of<'link'>): void {
  const index = needIndex(socket, op.name, op);
  const master = op.master === undefined ? undefined : needIndex(socket, op.master, op);
  socket.queue(`link ${op.name}`, RTM.NEWLINK, 0, [], (m) => {
    interfaceInfo(m, index, op.up === true ? IFF_UP : 0, op.up === undefined ? 0 : IFF_UP);
    if (op.mtu !== undefined) m.attributeU32(IFLA.MTU, op.mtu);
    if (op.mac !== undefined) m.attribute(IFLA.ADDRESS, macBytes(op.mac));
    if (master !== undefined) m.attributeU32(IFLA.MASTER, master);
    if (op.isolated !== undefined || op.hairpin !== undefined) {
      m.nested(IFLA.LINKINFO, () => {
        m.attributeText(IFLA_INFO_SLAVE_KIND, 'bridge');
        m.nested(IFLA_INFO_SLAVE_DATA, () => {
          if (op.hairpin !== undefined) m.attributeU8(IFLA_BRPORT_MODE, op.hairpin ? 1 : 0);
          if (op.isolated !== undefined) m.attributeU8(IFLA_BRPORT_ISOLATED, op.isolated ? 1 : 0);
        });
      });
    }
  });
}

function deleteLink(socket: RouteSocket, op: Of<'link-del'>): void {
  const index = socket.indexOf(op.name);
  if (index === undefined) return;
  socket.queue(`link-del ${op.name}`, RTM.DELLINK, 0, ABSENT, (m) => interfaceInfo(m, index));
  socket.forget(op.name);
}

function changeAddress(socket: RouteSocket, op: Of<'addr'>): void {
  const index = op.del === true ? socket.indexOf(op.dev) : needIndex(socket, op.dev, op);
  if (index === undefined) return;
  const [type, flags] = op.del === true ? [RTM.DELADDR, 0] : [RTM.NEWADDR, NLM_F_CREATE | NLM_F_REPLACE];
  socket.queue(`addr ${op.address} dev ${op.dev}`, type, flags, op.del === true ? ABSENT : [ERRNO.EEXIST], (m) => {
    // No duplicates are looked for: managers give each address once, and a tentative address cannot be used.
    const flags6 = familyOf(op.address) === 6 ? IFA_F_NODAD : 0;
    m.u8(addressFamily(op.address)).u8(maskLength(op.address)).u8(flags6).u8(RT_SCOPE_UNIVERSE).u32(index);
    m.attribute(2, ipBytes(op.address)).attribute(1, ipBytes(op.address));
  });
}

function changeRoute(socket: RouteSocket, op: Of<'route'>): void {
  const index = op.del === true ? socket.indexOf(op.dev) : needIndex(socket, op.dev, op);
  if (index === undefined) return;
  const length = maskLength(op.to);
  const table = op.table ?? RT_TABLE_MAIN;
  const [type, flags] = op.del === true ? [RTM.DELROUTE, 0] : [RTM.NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE];
  socket.queue(`route ${op.to} dev ${op.dev}`, type, flags, op.del === true ? ABSENT : [], (m) => {
    const scope = op.local === true ? RT_SCOPE_HOST : op.via === undefined ? RT_SCOPE_LINK : RT_SCOPE_UNIVERSE;
    m.u8(addressFamily(op.to)).u8(length).u8(0).u8(0);
    m.u8(table < 256 ? table : 0)
      .u8(RTPROT_BOOT)
      .u8(scope)
      .u8(op.local === true ? RTN_LOCAL : RTN_UNICAST);
    m.u32(op.onlink === true ? RTNH_F_ONLINK : 0);
    if (length > 0) m.attribute(1, ipBytes(op.to));
    m.attributeU32(4, index).attributeU32(15, table);
    if (op.via !== undefined) m.attribute(5, ipBytes(op.via));
    if (op.metric !== undefined) m.attributeU32(6, op.metric);
  });
}

function changeRule(socket: RouteSocket, op: Of<'rule'>): void {
  const [type, flags] = op.del === true ? [RTM.DELRULE, 0] : [RTM.NEWRULE, NLM_F_CREATE | NLM_F_EXCL];
  socket.queue(`rule fwmark ${op.mark}`, type, flags, op.del === true ? ABSENT : [ERRNO.EEXIST], (m) => {
    m.u8(op.family === 6 ? AF_INET6 : AF_INET)
      .u8(0)
      .u8(0)
      .u8(0);
    m.u8(op.table < 256 ? op.table : 0)
      .u8(0)
      .u8(0)
      .u8(FR_ACT_TO_TBL)
      .u32(0);
    m.attributeU32(6, op.priority).attributeU32(10, op.mark).attributeU32(15, op.table);
  });
}

function changeNeighbour(socket: RouteSocket, op: Of<'neigh'>): void {
  const index = op.del === true ? socket.indexOf(op.dev) : needIndex(socket, op.dev, op);
  if (index === undefined) return;
  const [type, flags] = op.del === true ? [RTM.DELNEIGH, 0] : [RTM.NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE];
  socket.queue(`neigh ${op.ip} dev ${op.dev}`, type, flags, op.del === true ? ABSENT : [], (m) => {
    neighbourInfo(m, addressFamily(op.ip), index, NUD_PERMANENT, 0);
    m.attribute(1, ipBytes(op.ip)).attribute(2, macBytes(op.mac));
  });
}

function changeFdb(socket: RouteSocket, op: Of<'fdb'>): void {
  const index = op.del === true ? socket.indexOf(op.dev) : needIndex(socket, op.dev, op);
  if (index === undefined) return;
  const [type, flags] = op.del === true ? [RTM.DELNEIGH, 0] : [RTM.NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE];
  socket.queue(`fdb ${op.mac} dev ${op.dev}`, type, flags, op.del === true ? ABSENT : [], (m) => {
    neighbourInfo(m, PF_BRIDGE, index, fdbState(op), (op.self ? NTF_SELF : 0) | (op.master ? NTF_MASTER : 0));
    m.attribute(2, macBytes(op.mac));
    if (op.to !== undefined) m.attribute(1, ipBytes(op.to));
  });
}

/** Static for a bridge is NOARP, for a vxlan device REACHABLE; both bits suit both (as iproute2's `static`). */
function fdbState(op: Of<'fdb'>): number {
  return op.master ? NUD_NOARP | NUD_REACHABLE : NUD_PERMANENT;
}

/** struct ndmsg. */
function neighbourInfo(m: MessageBuilder, family: number, index: number, state: number, flags: number): void {
  m.u8(family).u8(0).u16(0).u32(index).u16(state).u8(flags).u8(0);
}
