/**
 * One change of the kernel's network state, as data. Adding what exists (and is alike) and deleting what is absent are
 * no errors, so that a batch may be run again.
 */
export type Op =
  | { kind: 'bridge'; name: string; mac?: string; mtu?: number }
  | {
      kind: 'veth';
      name: string;
      mtu: number;
      master?: string;
      /** Bridge port that reaches no other isolated port. */
      isolated?: boolean;
      /** Bridge port that sends frames back where they came from. */
      hairpin?: boolean;
      /** The other end, born in `namespace`; it is down until a `link` op there brings it up. */
      peer: { name: string; mac?: string; namespace: string };
    }
  | {
      kind: 'vxlan';
      name: string;
      /** Namespace the device is born into; its socket stays in the one where this op runs. */
      namespace: string;
      vni: number;
      /** Of either family; it is that of all far ends. */
      local: string;
      port: number;
      mtu: number;
      mac?: string;
      /** Answers ARP and neighbour solicitations from the neighbour table and never floods. */
      proxy: boolean;
    }
  /** A link of its own on `parent` (bridge mode), born in `namespace`. */
  | { kind: 'macvlan'; name: string; parent: string; namespace: string; mac?: string }
  | {
      kind: 'link';
      name: string;
      up?: boolean;
      mtu?: number;
      mac?: string;
      master?: string;
      isolated?: boolean;
      hairpin?: boolean;
    }
  | { kind: 'link-del'; name: string }
  | { kind: 'addr'; del?: boolean; dev: string; address: string }
  /** `local`: packets to the destination that come in by `dev` are this host's own; then with a `metric`. */
  | {
      kind: 'route';
      del?: boolean;
      to: string;
      via?: string;
      dev: string;
      onlink?: boolean;
      table?: number;
      local?: boolean;
      metric?: number;
    }
  /** Of IPv4 unless `family` says otherwise; all other ops have the family of their addresses. */
  | { kind: 'rule'; del?: boolean; family?: 6; mark: number; table: number; priority: number }
  | { kind: 'neigh'; del?: boolean; dev: string; ip: string; mac: string }
  /** `self`: entry of the device itself (vxlan: MAC to tunnel end point); `master`: entry of its bridge. */
  | { kind: 'fdb'; del?: boolean; dev: string; mac: string; to?: string; self: boolean; master: boolean }
  | { kind: 'sysctl'; path: string; value: string };

export interface LinkInfo {
  name: string;
  index: number;
  mtu: number;
  up: boolean;
  /** The rest is absent where a back end cannot tell. */
  mac?: string;
  /** Name of the bridge it is a port of; empty when of none. */
  master?: string;
  /** Of a bridge port. */
  hairpin?: boolean;
  isolated?: boolean;
  /** Of a vxlan device. */
  tunnel?: { vni: number; local: string; port: number };
}

export interface AddressInfo {
  dev: number;
  /** With mask. */
  address: string;
}

export interface RouteInfo {
  /** Destination with mask; 0.0.0.0/0 or ::/0 for the default. */
  to: string;
  via: string;
  dev: number;
  table: number;
}

/**
 * Switches off the IPv6 of a bridge's port before it is up: it never speaks for itself, and would tell its container, and
 * through the bridge all others, of groups and a link-local address that nobody asks for.
 */
export function quietPort(name: string): Extract<Op, { kind: 'sysctl' }> {
  return { kind: 'sysctl', path: `net/ipv6/conf/${name}/disable_ipv6`, value: '1' };
}

/** What a namespace holds of both families, as far as plans are compared with it. */
export interface NamespaceState {
  links: LinkInfo[];
  addresses: AddressInfo[];
  routes: RouteInfo[];
  /** Permanent neighbours. */
  neighbours: { dev: number; ip: string; mac: string }[];
  /** Static entries of devices and bridges. */
  fdb: { dev: number; mac: string; to: string; self: boolean; master: boolean }[];
  rules: { family?: 6; mark: number; table: number; priority: number }[];
}

/** The kernel's network as seen through one back end. A namespace is a path, or null for the caller's own. */
export interface Kernel {
  /** Makes a namespace bound to `path`, or binds the one that `existing` names. */
  createNamespace(path: string, existing?: string): Promise<void>;
  /** Lets go of a namespace; it ends with its last process. */
  removeNamespace(path: string): void;
  /** Runs ops in order. @throws ShoalError that names the op which failed; those before it stay done. */
  apply(namespace: string | null, ops: readonly Op[]): Promise<void>;
  /**
   * Runs nft commands as one transaction and returns what they print. `urgent`: it deletes nothing (so it is short) and
   * goes before others that wait.
   * @throws ShoalError with nft's own words.
   */
  nft(namespace: string | null, text: string, urgent?: boolean): Promise<string>;
  /**
   * Runs messages of nf_tables as one transaction; absent where a back end has only nft's words. `deletes`: it takes
   * something away, so it is long.
   * @throws ShoalError
   */
  nftBatch?: (namespace: string | null, messages: readonly Buffer[], deletes: boolean) => Promise<void>;
  state(namespace: string | null): Promise<NamespaceState>;
  /**
   * Forgets translated UDP flows to addresses that nobody serves any more, so that their next packet is sent elsewhere;
   * TCP is left alone. Returns how many there were.
   */
  forgetFlows(namespace: string | null, targets: readonly string[]): Promise<number>;
  /** Addresses that translated UDP flows are sent to. */
  flowTargets(namespace: string | null): Promise<Set<string>>;
}
