import { writeFileSync } from 'node:fs';
import { setImmediate as yieldLoop } from 'node:timers/promises';
import { inNetworkNamespace, ShoalError } from '../../base/index.ts';
import { flowTargets, forgetFlows } from './conntrack.ts';
import { dropNamespace, makeNamespace } from './namespace.ts';
import { RouteSocket } from './netlink.ts';
import { loadNftables, NftQueue } from './nftables.ts';
import { sendNftBatch } from './nft-batch.ts';
import { quietPort, type Kernel, type NamespaceState, type Op } from './ops.ts';
import { readState, type Dumper } from './route-dump.ts';
import { queueOp } from './route-ops.ts';

/**
 * The kernel through rtnetlink and libnftables in this very thread: microseconds a request, no process.
 * @throws Error when libnftables cannot be loaded.
 */
export function createFfiKernel(): Kernel {
  const queue = new NftQueue(loadNftables());
  return {
    createNamespace: async (path, existing) => makeNamespace(path, existing),
    removeNamespace: dropNamespace,
    apply: applyPaced,
    nft: (namespace, text, urgent) => queue.run(namespace, text, urgent ?? false),
    nftBatch: sendNftBatch,
    state: readPaced,
    forgetFlows,
    flowTargets,
  };
}

/** Ops of one part of a long batch: some 3 ms. */
const OPS_PER_TURN = 128;

function withSocket<T>(namespace: string | null, use: (socket: RouteSocket) => T): T {
  const socket = new RouteSocket(namespace);
  try {
    return use(socket);
  } finally {
    socket.close();
  }
}

/** The whole state of a namespace, read in parts between which the loop turns. */
async function readPaced(namespace: string | null): Promise<NamespaceState> {
  const requests: Parameters<Dumper['dump']>[] = [];
  const state = readState({ dump: (...request) => void requests.push(request) });
  const socket = new RouteSocket(namespace);
  try {
    for (const request of requests) await socket.dumpPaced(...request, yieldLoop);
  } finally {
    socket.close();
  }
  return state;
}

/** Runs ops in order; the loop turns between the parts of a long batch. */
async function applyPaced(namespace: string | null, ops: readonly Op[]): Promise<void> {
  if (ops.length <= OPS_PER_TURN) return applyOps(namespace, ops);
  for (let at = 0; at < ops.length; at += OPS_PER_TURN) {
    if (at > 0) await yieldLoop();
    applyOps(namespace, ops.slice(at, at + OPS_PER_TURN));
  }
}

type SysctlOp = Extract<Op, { kind: 'sysctl' }>;

function applyOps(namespace: string | null, ops: readonly Op[]): void {
  if (ops.length === 0) return;
  withSocket(namespace, (socket) => {
    const switches: SysctlOp[] = [];
    for (const op of ops) {
      if (op.kind === 'sysctl') {
        socket.flush();
        switches.push(op);
        continue;
      }
      writeSysctls(namespace, switches.splice(0));
      queueOp(socket, op);
      if (op.kind === 'veth' && op.master !== undefined) openPort(namespace, socket, op);
    }
    writeSysctls(namespace, switches);
    socket.flush();
  });
}

function openPort(namespace: string | null, socket: RouteSocket, op: Extract<Op, { kind: 'veth' }>): void {
  const { name, isolated = false, hairpin = false } = op;
  writeSysctls(namespace, [quietPort(name)]);
  queueOp(socket, { kind: 'link', name, up: true, ...(isolated || hairpin ? { isolated, hairpin } : {}) });
}

/** Writes switches that follow each other on one visit to the namespace. */
function writeSysctls(namespace: string | null, switches: readonly SysctlOp[]): void {
  if (switches.length === 0) return;
  const write = (): void => switches.forEach(writeSysctl);
  if (namespace === null) write();
  else inNetworkNamespace(namespace, write);
}

function writeSysctl({ path, value }: SysctlOp): void {
  try {
    writeFileSync(`/proc/sys/${path}`, value);
  } catch (error) {
    // A kernel without IPv6 has none of its switches.
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw new ShoalError('Internal', `cannot set ${path} to ${value}: ${(error as Error).message}`, { cause: error });
  }
}

/** Whole state of a namespace, synchronously; for callers on a start path. */
export function readNamespace(namespace: string | null): NamespaceState {
  return withSocket(namespace, readState);
}
