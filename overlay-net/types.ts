/** A port as a user published it. */
export interface PublishedPort {
  protocol: 'tcp' | 'udp' | 'sctp';
  targetPort: number;
  /** 0 lets the host choose one. */
  publishedPort: number;
  /** Last port of a range from which the first free one is taken; left out: `publishedPort` alone. */
  publishedPortEnd?: number;
  /** Address to bind to; empty means all. */
  hostIp: string;
}

/** A port of the routing mesh that something else on this host has too. */
export interface MeshClash {
  protocol: PublishedPort['protocol'];
  port: number;
  /** Empty: all addresses. */
  hostIp: string;
  /** What holds it, in words. */
  holder: string;
}

/** One interface that a container shall have. */
export interface EndpointSpec {
  /** Network id: an overlay for which a table was given, or a local network created here (for instance 'bridge'). */
  networkId: string;
  /** Address with mask; empty lets a local network choose one. */
  address: string;
  /** IPv6 address with mask; absent or empty: none is wanted (or a local network with IPv6 chooses one). */
  address6?: string;
  mac: string;
  aliases: readonly string[];
  /** Other containers of this network under names that this container alone knows. */
  links?: readonly EndpointLink[];
  /** The leg with the highest carries the default route; 0 when left out. */
  gwPriority?: number;
}

export interface EndpointLink {
  /** Name or id of the other container. */
  target: string;
  alias: string;
}

/** The network side of one container. */
export interface SandboxSpec {
  /** Container id (64 hexadecimal digits). */
  id: string;
  /** Task id when the container belongs to one; its name on networks comes from the tables. */
  taskId?: string;
  /** Names under which the container is known on local networks. */
  names: readonly string[];
  endpoints: readonly EndpointSpec[];
  /** Ports published by this host only (mode=host, or docker run -p). */
  ports: readonly PublishedPort[];
  /** Resolvers to forward to; empty means the host's. */
  dns: readonly string[];
  /** Resolver options that the user gave (resolv.conf(5)). */
  dnsOptions?: readonly string[];
}

/** One endpoint as it was made. */
export interface EndpointResult {
  networkId: string;
  networkName: string;
  interfaceName: string;
  address: string;
  gateway: string;
  /** IPv6 address with mask and its gateway; absent when the endpoint has none. */
  address6?: string;
  gateway6?: string;
  mac: string;
}

export interface SandboxResult {
  /** Path that holds the network namespace; stays while the sandbox lives, across daemon restarts. */
  namespacePath: string;
  endpoints: EndpointResult[];
  /** Published ports with the host port that was chosen. */
  ports: PublishedPort[];
}

/** A network of this host alone. */
export interface LocalNetwork {
  id: string;
  name: string;
  driver: 'bridge' | 'host' | 'null' | 'macvlan';
  subnet: string;
  gateway: string;
  /** IPv6; both empty when the network has none. */
  subnet6: string;
  gateway6: string;
  /** Part of the subnet that addresses are chosen from; empty means all of it. */
  ipRange: string;
  ipRange6: string;
  /** Addresses that others use, by name. */
  auxAddresses: Readonly<Record<string, string>>;
  /** A user gave the subnet, so that users may also give addresses. */
  userSubnet: boolean;
  attachable: boolean;
  internal: boolean;
  createdMs: number;
  labels: Readonly<Record<string, string>>;
  options: Readonly<Record<string, string>>;
}

/** What a user wants of a new local network; what is left out takes Docker's default. */
export type LocalNetworkRequest = Pick<
  LocalNetwork,
  'name' | 'subnet' | 'gateway' | 'internal' | 'labels' | 'options'
> &
  Partial<Pick<LocalNetwork, 'subnet6' | 'gateway6' | 'ipRange' | 'ipRange6' | 'auxAddresses' | 'attachable'>> & {
    driver?: 'bridge' | 'macvlan' | 'ipvlan';
    /** With no `subnet6`, one of the unique local range is made. */
    ipv6?: boolean;
  };

/** What happened to a network of this host. */
export interface NetworkEvent {
  action: 'create' | 'destroy' | 'connect' | 'disconnect';
  networkId: string;
  networkName: string;
  driver: string;
  /** Full id, of `connect` and `disconnect`. */
  containerId?: string;
}

/** Networks of one host: what the engine and the executor use. Implemented by `HostNetwork`. */
export interface HostNetworks {
  /** Creates what every host has (default bridge), takes over what an earlier life left, repairs it. */
  start(): Promise<void>;
  /** Ends loops and sockets; everything in the kernel stays, so that containers go on. */
  stop(): Promise<void>;
  /** Removes everything of this host from the kernel. */
  destroy(): Promise<void>;
  /**
   * Makes (or takes over) a container's namespace with all its interfaces.
   * @param existing path of a network namespace that becomes the container's, because it belongs to a user namespace
   */
  createSandbox(spec: SandboxSpec, existing?: string): Promise<SandboxResult>;
  /** The container is about to stop: no new connections are sent to it by this host. */
  drainSandbox(id: string): Promise<void>;
  removeSandbox(id: string): Promise<void>;
  /** Plugs one more interface into a living sandbox; the default route moves when the new one shall carry it. */
  connectSandbox(id: string, endpoint: EndpointSpec): Promise<SandboxResult>;
  /** Takes the interface on a network out of a living sandbox. @throws ShoalError NotFound when there is none */
  disconnectSandbox(id: string, networkId: string): Promise<SandboxResult>;
  /** A container has another name: names for it, and links of others to it, follow. */
  renameSandbox(id: string, oldName: string, name: string): Promise<void>;
  /** Sandboxes not in `ids` are removed. */
  keepSandboxes(ids: ReadonlySet<string>): Promise<void>;
  /** This host's tunnel end point; until it is set, overlays stay local. */
  setUnderlay(underlay: { vtep: string; dataPathPort: number; nodeId: string }): Promise<void>;
  /** Public key by which other hosts encrypt for this one, 32 bytes; managers give it to the members of networks. */
  wireguardKey(): Uint8Array;
  /** The cluster's keys for encrypted networks, whole, whenever managers send them; `key` is hexadecimal. */
  setNetworkKeys(keys: readonly { key: string; lamportTime: number }[]): Promise<void>;
  /** This host leaves its overlays: their tables, tunnels and rules go; local networks stay. */
  leaveUnderlay(): Promise<void>;
  /** Takes the names of a table at once; its links, neighbours and rules follow with `setTable`. Never throws. */
  announceTable(table: import('../proto/index.ts').NetworkTable): void;
  /** Replaces what is known of one overlay network (see proto NetworkTable). */
  setTable(table: import('../proto/index.ts').NetworkTable): Promise<void>;
  removeTable(networkId: string): Promise<void>;
  /** Waits until the table of a network is known and its links stand. @throws ShoalError Unavailable after timeoutMs. */
  waitForNetwork(networkId: string, timeoutMs: number, signal?: AbortSignal): Promise<void>;
  /** Proves this host's part of networks, or follows one connection, as a manager asked. Changes nothing; never throws. */
  checkNetworks(
    order: import('../proto/index.ts').NetworkCheckOrder,
  ): Promise<import('../proto/index.ts').NetworkCheckReport>;
  /** Ports of the routing mesh that something else on this host has too. */
  meshClashes(): readonly MeshClash[];
  /** Networks of the swarm that this host has a table of. */
  overlayNetworks(): import('../proto/index.ts').Network[];
  localNetworks(): LocalNetwork[];
  createLocalNetwork(network: LocalNetworkRequest): Promise<LocalNetwork>;
  removeLocalNetwork(id: string): Promise<void>;
}
