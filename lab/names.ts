import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { invalidArgument } from '../base/index.ts';

/** Hosts of one kind that a lab may have. */
export const HOSTS_MAX = 60;

export type Role = 'manager' | 'worker';

/** What `lab ls --json` prints of a host. */
export interface HostFacts {
  name: string;
  address: string;
  docker_host: string;
  /** Process of the daemon, 0 while it does not run. */
  pid: number;
  role: Role;
}

/** Paths and kernel names of one lab; all follow from its name. */
export class LabNames {
  readonly name: string;
  /** Six hexadecimal digits of the name's hash: kernel names are short. */
  readonly tag: string;

  /** @throws ShoalError InvalidArgument for a name that cannot be a file name. */
  constructor(name: string) {
    if (!/^[a-z0-9][a-z0-9_.-]{0,30}$/i.test(name)) {
      throw invalidArgument(`invalid lab name "${name}": letters, digits, '.', '_' and '-' are allowed, 31 at most`);
    }
    this.name = name;
    this.tag = createHash('sha256').update(name).digest('hex').slice(0, 6);
  }

  /** Sockets, pid files, logs; gone with a reboot. */
  get runDir(): string {
    return join('/run/shoal-lab', this.name);
  }

  /** Data roots; kept until `down`. */
  get dataDir(): string {
    return join('/var/lib/shoal-lab', this.name);
  }

  get stateFile(): string {
    return join(this.runDir, 'lab.json');
  }

  get bridge(): string {
    return `slb${this.tag}`;
  }

  /** Cgroup of the lab, below the root of every hierarchy. */
  get cgroup(): string {
    return `shoal-lab/${this.name}`;
  }

  hostCgroup(host: string): string {
    return `${this.cgroup}/${host}`;
  }

  /** The end of a host's link at the bridge. */
  hostLink(host: string): string {
    return `sl${this.tag}${host}`;
  }

  /** A host keeps its hardware address through a crash, as a machine does: what its neighbours remember stays true. */
  hostMac(host: string): string {
    const digits = createHash('sha256').update(`${this.name}/${host}`).digest('hex').slice(0, 10);
    return `02:${(digits.match(/../g) ?? []).join(':')}`;
  }

  hostRunDir(host: string): string {
    return join(this.runDir, host);
  }

  hostDataDir(host: string): string {
    return join(this.dataDir, host);
  }

  socket(host: string): string {
    return join(this.runDir, `${host}.sock`);
  }

  dockerHost(host: string): string {
    return `unix://${this.socket(host)}`;
  }
}

/** Names of the hosts in their order: managers first. @throws ShoalError InvalidArgument */
export function hostNames(managers: number, workers: number): { name: string; role: Role }[] {
  for (const [what, count] of [
    ['managers', managers],
    ['workers', workers],
  ] as const) {
    if (!Number.isSafeInteger(count) || count < 0 || count > HOSTS_MAX) {
      throw invalidArgument(`--${what} must be a whole number from 0 to ${HOSTS_MAX}`);
    }
  }
  if (managers + workers === 0) throw invalidArgument('a lab needs at least one host');
  const range = (count: number, letter: string, role: Role): { name: string; role: Role }[] =>
    Array.from({ length: count }, (_none, i) => ({ name: `${letter}${i + 1}`, role }));
  return [...range(managers, 'm', 'manager'), ...range(workers, 'w', 'worker')];
}

/** A parsed IPv4 subnet. */
export interface Subnet {
  base: number;
  prefix: number;
}

/** @throws ShoalError InvalidArgument */
export function parseSubnet(text: string): Subnet {
  const match = /^(\d+)\.(\d+)\.(\d+)\.(\d+)\/(\d+)$/.exec(text);
  const parts = (match ?? []).slice(1).map(Number);
  const [a = 256, b = 256, c = 256, d = 256, prefix = 0] = parts;
  if ([a, b, c, d].some((part) => part > 255) || prefix < 8 || prefix > 29) {
    throw invalidArgument(`invalid subnet ${text}: an IPv4 subnet from /8 to /29 is expected, such as 172.30.0.0/24`);
  }
  const mask = (0xffffffff << (32 - prefix)) >>> 0;
  const base = (((a << 24) | (b << 16) | (c << 8) | d) & mask) >>> 0;
  return { base, prefix };
}

/** The nth address of a subnet. */
export function addressAt(subnet: Subnet, n: number): string {
  if (n >= 2 ** (32 - subnet.prefix) - 1) throw invalidArgument('the subnet is too small for so many hosts');
  const value = subnet.base + n;
  return [24, 16, 8, 0].map((shift) => (value >>> shift) & 255).join('.');
}

export function subnetText(subnet: Subnet): string {
  return `${addressAt(subnet, 0)}/${subnet.prefix}`;
}
