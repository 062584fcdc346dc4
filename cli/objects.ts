/** The parts of the API's objects that the client reads. Names are the API's. */

export interface PortConfig {
  Name?: string;
  Protocol?: string;
  TargetPort: number;
  PublishedPort?: number;
  PublishMode?: string;
  /** Address of the hosts that the port is bound to; of flags only, see service-publish.ts. */
  HostIP?: string;
}

export interface Mount {
  Type: string;
  Source?: string;
  Target: string;
  ReadOnly?: boolean;
  [option: string]: unknown;
}

export interface DataReference {
  File?: { Name: string; UID: string; GID: string; Mode: number };
  Runtime?: object;
  SecretID?: string;
  SecretName?: string;
  ConfigID?: string;
  ConfigName?: string;
}

export interface Healthcheck {
  Test?: string[] | null;
  Interval?: number;
  Timeout?: number;
  Retries?: number;
  StartPeriod?: number;
  StartInterval?: number;
}

export interface ContainerSpec {
  Image: string;
  Args?: string[];
  Command?: string[];
  Env?: string[];
  Hostname?: string;
  Labels?: Record<string, string>;
  Dir?: string;
  User?: string;
  Groups?: string[];
  StopSignal?: string;
  StopGracePeriod?: number;
  TTY?: boolean;
  ReadOnly?: boolean;
  Init?: boolean;
  Mounts?: Mount[];
  DNSConfig?: { Nameservers?: string[]; Search?: string[]; Options?: string[] };
  Hosts?: string[];
  Healthcheck?: Healthcheck;
  Isolation?: string;
  Sysctls?: Record<string, string>;
  CapabilityAdd?: string[];
  CapabilityDrop?: string[];
  Ulimits?: { Name: string; Hard: number; Soft: number }[];
  OomScoreAdj?: number;
  Secrets?: DataReference[];
  Configs?: DataReference[];
  Privileges?: {
    CredentialSpec?: { Config?: string; File?: string; Registry?: string } | null;
    [other: string]: unknown;
  };
}

export interface GenericResource {
  DiscreteResourceSpec?: { Kind: string; Value: number };
  NamedResourceSpec?: { Kind: string; Value: string };
}

export interface NetworkAttachment {
  Target: string;
  Aliases?: string[];
  DriverOpts?: Record<string, string>;
}

export interface UpdateConfig {
  Parallelism: number;
  Delay?: number;
  Monitor?: number;
  FailureAction?: string;
  MaxFailureRatio: number;
  Order?: string;
}

export interface TaskSpec {
  ContainerSpec: ContainerSpec;
  Resources?: {
    Limits?: { NanoCPUs?: number; MemoryBytes?: number; Pids?: number };
    Reservations?: { NanoCPUs?: number; MemoryBytes?: number; GenericResources?: GenericResource[] };
  };
  RestartPolicy?: { Condition?: string; Delay?: number; MaxAttempts?: number; Window?: number };
  Placement?: {
    Constraints?: string[];
    Preferences?: { Spread?: { SpreadDescriptor: string } }[];
    MaxReplicas?: number;
    Platforms?: { Architecture?: string; OS?: string }[];
  };
  Networks?: NetworkAttachment[];
  LogDriver?: { Name: string; Options?: Record<string, string> };
  ForceUpdate?: number;
}

export interface ServiceMode {
  Replicated?: { Replicas?: number };
  Global?: object;
  ReplicatedJob?: { MaxConcurrent?: number; TotalCompletions?: number };
  GlobalJob?: object;
}

export interface ServiceSpec {
  Name: string;
  Labels?: Record<string, string>;
  TaskTemplate: TaskSpec;
  Mode: ServiceMode;
  UpdateConfig?: UpdateConfig;
  RollbackConfig?: UpdateConfig;
  Networks?: NetworkAttachment[] | null;
  EndpointSpec?: { Mode?: string; Ports?: PortConfig[] };
}

export interface Version {
  Index: number;
}

export interface Service {
  ID: string;
  Version: Version;
  Spec: ServiceSpec;
  Endpoint?: { Ports?: PortConfig[]; Spec?: { Mode?: string } };
  UpdateStatus?: { State?: string; StartedAt?: string; CompletedAt?: string; Message?: string };
  ServiceStatus?: { RunningTasks: number; DesiredTasks: number; CompletedTasks: number };
  JobStatus?: { JobIteration?: { Index?: number } };
  /** Shoal's own: number of the spec in force, and the canary of a running update. */
  Revision?: number;
  Canary?: { Tasks: number; WaitingSince?: string; PromotedAt?: string };
  Cron?: CronState;
  /** Shoal's own: since when its tasks are being levelled out by hand. */
  RebalanceRequested?: string;
  Autoscale?: AutoscaleStatus;
}

/** State of a job that runs by the clock. */
export interface CronState {
  Schedule: string;
  LastScheduled?: string;
  NextScheduled?: string;
  Message: string;
  Runs: CronRun[];
}

export interface CronRun {
  JobIteration: { Index: number };
  Scheduled?: string;
  Finished?: string;
  Outcome: string;
  Message: string;
}

/** Shoal's own: what the autoscaler did last. */
export interface AutoscaleStatus {
  FromReplicas: number;
  ToReplicas: number;
  CPUPercent: number;
  MemoryPercent: number;
  ChangedAt: string;
  Message: string;
}

/** Shoal's own: what the running tasks of a service use. */
export interface ServiceStats {
  ServiceID: string;
  Name: string;
  /** Running tasks, and those of them that have told lately what they use. */
  Running: number;
  Fresh: number;
  /** Averages, of the limit. */
  CPUPercent: number;
  MemoryPercent: number;
  Autoscale?: {
    Replicas: number;
    Min: number;
    Max: number;
    CPUTarget?: number;
    MemoryTarget?: number;
    Last?: AutoscaleStatus;
  };
  Tasks: {
    ID: string;
    Slot?: number;
    NodeID: string;
    /** Of one CPU; with the other two absent when nothing is known. */
    CPUPercent?: number;
    MemoryBytes?: number;
    AgeMs?: number;
    NanoCPUsLimit?: number;
    MemoryLimitBytes?: number;
  }[];
}

export interface Task {
  ID: string;
  CreatedAt: string;
  Spec: { ContainerSpec?: { Image: string; TTY?: boolean } };
  ServiceID: string;
  Slot?: number;
  NodeID?: string;
  DesiredState: string;
  Status: { Timestamp: string; State: string; Err?: string; PortStatus?: { Ports?: PortConfig[] | null } };
  JobIteration?: { Index?: number } | null;
}

export interface Node {
  ID: string;
  Version: Version;
  CreatedAt: string;
  Spec: { Name?: string; Labels?: Record<string, string> | null; Role: string; Availability: string };
  Description: {
    Hostname?: string;
    Platform?: { Architecture?: string; OS?: string };
    Resources?: { NanoCPUs?: number; MemoryBytes?: number };
    Engine?: {
      EngineVersion?: string;
      Labels?: Record<string, string> | null;
      Plugins?: { Type: string; Name: string }[] | null;
    };
    TLSInfo?: TlsInfo;
  };
  Status: { State: string; Addr?: string; Message?: string };
  ManagerStatus?: { Leader?: boolean; Reachability: string; Addr: string };
}

export interface TlsInfo {
  TrustRoot?: string;
  CertIssuerSubject?: string;
  CertIssuerPublicKey?: string;
}

export interface Swarm {
  ID: string;
  Version: Version;
  Spec: SwarmSpec;
  JoinTokens: { Worker: string; Manager: string };
  TLSInfo: TlsInfo;
  RootRotationInProgress?: boolean;
}

export interface SwarmSpec {
  Name?: string;
  Labels?: Record<string, string> | null;
  Orchestration?: { TaskHistoryRetentionLimit?: number };
  Raft?: { SnapshotInterval?: number; KeepOldSnapshots?: number; ElectionTick?: number; HeartbeatTick?: number };
  Dispatcher?: { HeartbeatPeriod?: number; NodeDownAfter?: number };
  CAConfig?: {
    NodeCertExpiry?: number;
    ExternalCAs?: { Protocol: string; URL: string; Options?: Record<string, string>; CACert?: string }[];
    SigningCACert?: string;
    SigningCAKey?: string;
    ForceRotate?: number;
  };
  EncryptionConfig?: { AutoLockManagers?: boolean };
  TaskDefaults?: object;
}

export interface SwarmInfo {
  NodeID?: string;
  NodeAddr?: string;
  LocalNodeState?: string;
  ControlAvailable?: boolean;
  Error?: string;
  RemoteManagers?: { NodeID: string; Addr: string }[] | null;
  Nodes?: number;
  Managers?: number;
  Cluster?: Partial<Swarm> & {
    ID?: string;
    DefaultAddrPool?: string[] | null;
    SubnetSize?: number;
    DataPathPort?: number;
  };
}
