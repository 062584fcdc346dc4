import { readFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { newId, readFileIfExists } from '../base/index.ts';
import { clusterSpecFromJson, type JsonObject, type SwarmPort, type SystemPort } from '../api/index.ts';
import type { Engine } from '../engine/index.ts';
import { inspectBackup } from '../manager/index.ts';
import { ClusterSpec } from '../proto/index.ts';
import type { HostNetwork } from '../overlay-net/index.ts';
import type { ClusterNode } from './cluster.ts';
import type { DaemonConfig } from './config.ts';
import type { EventHub } from './events.ts';
import { daemonMetrics } from './metrics.ts';
import { machineArchitecture, PLUGINS } from './node-description.ts';
import { VERSION } from './version.ts';

/** The API's swarm port over this node's membership. */
export function swarmPort(cluster: ClusterNode): SwarmPort {
  return {
    state: () => ({
      nodeId: cluster.nodeId,
      nodeAddr: cluster.nodeAddr,
      localNodeState: cluster.state,
      controlAvailable: cluster.state === 'active' && cluster.member?.manager !== undefined,
      error: cluster.error,
      remoteManagers: cluster.remoteManagers(),
      quorumLoss: cluster.member?.manager?.recovery.quorumLoss(),
      recovery: cluster.member?.manager?.recovery.report(),
    }),
    init: ({ spec, ...request }) => cluster.init({ ...request, spec: clusterSpecFromJson(spec, ClusterSpec.create()) }),
    join: (request) => cluster.join(request),
    leave: (force) => cluster.leave(force),
    call: async (method, request) => await cluster.manager().call(method, request),
    callStale: async (method, request) => await cluster.manager().recovery.callStale(method, request),
    backup: async (options) => await cluster.manager().recovery.backup({ ...options, version: VERSION }),
    inspectBackup: (body, passphrase) => inspectBackup(body, passphrase),
    restore: (body, request) => cluster.restore(body, request),
    rejoin: (remoteAddrs) => cluster.rejoin(remoteAddrs),
    subscribeLogs: (request, signal) => cluster.manager().subscribeLogs(request, signal),
    checkNetworks: async (request) => await cluster.manager().checkNetworks(request),
    issuer: () => cluster.issuer(),
    unlockKey: () => cluster.unlockKey(),
    unlock: (key) => cluster.unlock(key),
  };
}

/** NAME and VERSION of /etc/os-release. */
function operatingSystem(): { OperatingSystem: string; OSVersion: string } {
  const text = readFileIfExists('/etc/os-release') ?? '';
  const field = (name: string): string => new RegExp(`^${name}="?([^"\n]*)"?$`, 'm').exec(text)?.[1] ?? '';
  return { OperatingSystem: field('PRETTY_NAME') || 'Linux', OSVersion: field('VERSION_ID') };
}

/** An id of this daemon that outlives restarts. */
function daemonId(dataRoot: string): string {
  return readFileSync(join(dataRoot, 'engine-id'), 'utf8').trim();
}

export type StorageFacts = Pick<SystemFacts, 'storageDriver' | 'storageStatus'>;

export interface SystemFacts {
  config: DaemonConfig;
  engine: Engine;
  networks: Pick<HostNetwork, 'repairs'>;
  hub: EventHub;
  version: string;
  gitCommit: string;
  storageDriver: string;
  /** Names and values of facts of it. */
  storageStatus: readonly (readonly [string, string])[];
}

/** The API's system port. */
export function systemPort({
  config,
  engine,
  networks,
  hub,
  version,
  gitCommit,
  storageDriver,
  storageStatus,
}: SystemFacts): SystemPort {
  const facts = engine.info();
  const fixed: JsonObject = {
    ID: daemonId(config.dataRoot),
    Driver: storageDriver,
    DriverStatus: storageStatus,
    Plugins: { ...PLUGINS, Authorization: null },
    MemoryLimit: true,
    SwapLimit: facts.swapLimit,
    CpuCfsPeriod: true,
    CpuCfsQuota: true,
    CPUShares: true,
    CPUSet: true,
    PidsLimit: true,
    IPv4Forwarding: true,
    OomKillDisable: false,
    LoggingDriver: config.logDriver.type,
    CgroupDriver: facts.cgroupDriver,
    CgroupVersion: facts.cgroupVersion,
    KernelVersion: release(),
    ...operatingSystem(),
    Architecture: machineArchitecture(),
    IndexServerAddress: 'https://index.docker.io/v1/',
    RegistryConfig: {
      InsecureRegistryCIDRs: ['127.0.0.0/8', ...config.insecureRegistries.filter((entry) => entry.includes('/'))],
      IndexConfigs: {},
      Mirrors: config.registryMirrors,
    },
    NCPU: facts.cpus,
    MemTotal: facts.memoryBytes,
    DockerRootDir: config.dataRoot,
    HttpProxy: '',
    HttpsProxy: '',
    NoProxy: '',
    ExperimentalBuild: false,
    Runtimes: { [facts.runtime.name]: { path: facts.runtime.path } },
    DefaultRuntime: facts.runtime.name,
    LiveRestoreEnabled: true,
    Isolation: '',
    InitBinary: 'tini',
    ContainerdCommit: { ID: '' },
    RuncCommit: { ID: facts.runtime.version },
    InitCommit: { ID: '' },
    SecurityOptions: ['name=seccomp,profile=builtin'],
    Warnings: null,
  };
  return {
    version,
    gitCommit,
    storageDriver,
    info: async () => ({
      ...fixed,
      Debug: config.debug,
      Labels: Object.entries(config.labels).map(([key, value]) => `${key}=${value}`),
    }),
    events: (query, signal) => hub.stream(query, signal),
    metrics: () => daemonMetrics({ engine, repairs: networks.repairs, version, gitCommit }),
    temporaryFile: () => join(config.dataRoot, 'tmp', newId()),
  };
}
