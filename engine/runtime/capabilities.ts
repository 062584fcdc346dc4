import { readFileSync } from 'node:fs';
import { invalidArgument } from '../../base/index.ts';

/** All capabilities by their number in the kernel (include/uapi/linux/capability.h). */
const CAPABILITY_NAMES = [
  'CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE',
  'NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN',
  'SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE',
  'MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE',
]
  .join(' ')
  .split(' ');

/** What a container has unless it asks otherwise: Docker's fourteen. */
const DEFAULT_NAMES = [
  'CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE',
  'SYS_CHROOT KILL AUDIT_WRITE',
]
  .join(' ')
  .split(' ');

const CAP_SYS_RESOURCE = 24;

/** This process's effective capabilities as a bit set, from /proc/self/status. */
export function ownCapabilities(): bigint {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1];
  return hex === undefined ? 0n : BigInt(`0x${hex}`);
}

/** Whether this daemon may raise hard limits. */
export function mayRaiseLimits(): boolean {
  return ((ownCapabilities() >> BigInt(CAP_SYS_RESOURCE)) & 1n) === 1n;
}

function normalise(name: string, field: string): string {
  const upper = name.toUpperCase();
  const bare = upper.startsWith('CAP_') ? upper.slice(4) : upper;
  if (bare !== 'ALL' && !CAPABILITY_NAMES.includes(bare)) {
    throw invalidArgument(`invalid ${field}: unknown capability: "CAP_${bare}"`);
  }
  return bare;
}

export interface CapabilityRequest {
  capAdd: readonly string[];
  capDrop: readonly string[];
  privileged: boolean;
}

/**
 * The capabilities of a container with their CAP_ prefix. `ALL` in add or drop is the whole set; drop wins over the
 * defaults and over ALL, add wins over drop. Those that the daemon lacks are left out of "all" sets.
 * @throws ShoalError InvalidArgument for an unknown name, or one asked for by name that the daemon itself lacks.
 */
export function containerCapabilities(request: CapabilityRequest, own = ownCapabilities()): string[] {
  const held = (name: string): boolean => ((own >> BigInt(CAPABILITY_NAMES.indexOf(name))) & 1n) === 1n;
  const all = CAPABILITY_NAMES.filter(held);
  const add = request.capAdd.map((name) => normalise(name, 'CapAdd'));
  const drop = request.capDrop.map((name) => normalise(name, 'CapDrop'));
  if (request.privileged) return all.map((name) => `CAP_${name}`);
  const lacking = add.find((name) => name !== 'ALL' && !held(name));
  if (lacking !== undefined) {
    throw invalidArgument(`capability CAP_${lacking} cannot be added: the daemon itself does not have it`);
  }
  const base = add.includes('ALL') ? all : drop.includes('ALL') ? [] : DEFAULT_NAMES.filter(held);
  const kept = new Set(base.filter((name) => !drop.includes(name)));
  for (const name of add) if (name !== 'ALL') kept.add(name);
  return [...kept].sort().map((name) => `CAP_${name}`);
}
