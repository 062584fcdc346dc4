/**
 * The part of the OCI runtime configuration that this engine writes (opencontainers/runtime-spec, config.md and
 * config-linux.md). Numbers are bytes, or as the specification says.
 */
export interface OciMount {
  destination: string;
  type?: string;
  source?: string;
  options?: string[];
}

export interface OciProcess {
  terminal: boolean;
  user: { uid: number; gid: number; additionalGids?: number[]; umask?: number };
  args: string[];
  env: string[];
  cwd: string;
  capabilities?: Record<'bounding' | 'effective' | 'permitted', string[]>;
  rlimits?: { type: string; soft: number; hard: number }[];
  noNewPrivileges: boolean;
  oomScoreAdj?: number;
  apparmorProfile?: string;
  consoleSize?: { height: number; width: number };
}

export interface OciDeviceRule {
  allow: boolean;
  type?: 'a' | 'b' | 'c' | 'p';
  major?: number;
  minor?: number;
  access: string;
}

/** A block device with its share (`weight`) or its limit (`rate`, per second). */
export interface OciBlockDevice {
  major: number;
  minor: number;
  weight?: number;
  rate?: number;
}

export interface OciResources {
  devices: OciDeviceRule[];
  memory?: { limit?: number; reservation?: number; swap?: number; swappiness?: number; disableOOMKiller?: boolean };
  cpu?: {
    shares?: number;
    quota?: number;
    period?: number;
    realtimeRuntime?: number;
    realtimePeriod?: number;
    cpus?: string;
    mems?: string;
  };
  pids?: { limit: number };
  blockIO?: {
    weight?: number;
    weightDevice?: OciBlockDevice[];
    throttleReadBpsDevice?: OciBlockDevice[];
    throttleWriteBpsDevice?: OciBlockDevice[];
    throttleReadIOPSDevice?: OciBlockDevice[];
    throttleWriteIOPSDevice?: OciBlockDevice[];
  };
}

export interface OciDevice {
  path: string;
  type: 'b' | 'c' | 'p';
  major: number;
  minor: number;
  fileMode?: number;
  uid?: number;
  gid?: number;
}

export interface OciSeccompArg {
  index: number;
  value: number;
  valueTwo?: number;
  op: string;
}

export interface OciSeccomp {
  defaultAction: string;
  defaultErrnoRet?: number;
  architectures: string[];
  syscalls: { names: string[]; action: string; errnoRet?: number; args?: OciSeccompArg[] }[];
}

/** A program that the runtime runs at a moment of a container's life. */
export interface OciHook {
  path: string;
  args?: string[];
  env?: string[];
  timeout?: number;
}

export interface OciIdMapping {
  containerID: number;
  hostID: number;
  size: number;
}

export interface OciSpec {
  ociVersion: string;
  process: OciProcess;
  root: { path: string; readonly: boolean };
  hostname?: string;
  mounts: OciMount[];
  hooks?: Record<string, OciHook[]>;
  annotations?: Readonly<Record<string, string>>;
  linux: {
    namespaces: { type: string; path?: string }[];
    uidMappings?: OciIdMapping[];
    gidMappings?: OciIdMapping[];
    resources: OciResources;
    cgroupsPath: string;
    devices?: OciDevice[];
    seccomp?: OciSeccomp;
    maskedPaths?: readonly string[];
    readonlyPaths?: readonly string[];
    sysctl?: Record<string, string>;
    rootfsPropagation?: string;
  };
}
