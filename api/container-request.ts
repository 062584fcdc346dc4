/** A published port as asked for; a range leads to its first free port. */
export interface PortRequestFacts {
  protocol: 'tcp' | 'udp' | 'sctp';
  targetPort: number;
  publishedPort: number;
  publishedPortEnd?: number;
  hostIp: string;
}

export interface EndpointRequestFacts {
  networkId: string;
  address: string;
  address6: string;
  mac: string;
  aliases: readonly string[];
  links?: readonly { target: string; alias: string }[];
  gwPriority?: number;
}

/** What the body of POST /containers/create asks for. */
export interface ContainerRequestFacts {
  name: string;
  image: string;
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  env: readonly string[];
  workingDir?: string;
  user?: string;
  hostname?: string;
  domainname?: string;
  exposedPorts: readonly string[];
  publishAll: boolean;
  labels: Readonly<Record<string, string>>;
  tty: boolean;
  openStdin: boolean;
  readOnlyRootfs: boolean;
  init: boolean;
  stopSignal?: string;
  stopGraceMs?: number;
  mounts: readonly {
    type: 'bind' | 'volume';
    source: string;
    target: string;
    readOnly: boolean;
    propagation?: string;
    createMountpoint?: boolean;
  }[];
  files: readonly never[];
  resources: { memoryBytes?: number; nanoCpus?: number; pidsLimit?: number };
  capAdd: readonly string[];
  capDrop: readonly string[];
  privileged: boolean;
  noNewPrivileges: boolean;
  seccomp: string;
  sysctls: Readonly<Record<string, string>>;
  extraHosts: readonly string[];
  dns: readonly string[];
  dnsSearch: readonly string[];
  dnsOptions: readonly string[];
  network:
    | { mode: 'host' }
    | { mode: 'none' }
    | { mode: 'container'; container: string }
    | {
        mode: 'sandbox';
        endpoints: readonly EndpointRequestFacts[];
        ports: readonly PortRequestFacts[];
        links?: readonly { target: string; alias: string }[];
        userMode: string;
      };
  healthCheck?: {
    test: readonly string[];
    intervalMs: number;
    timeoutMs: number;
    startPeriodMs: number;
    startIntervalMs: number;
    retries: number;
  };
  logDriver: { type: string; config: Readonly<Record<string, string>> };
  restart: { name: 'no' | 'always' | 'unless-stopped' | 'on-failure'; maximumRetryCount: number };
  autoRemove: boolean;
}
