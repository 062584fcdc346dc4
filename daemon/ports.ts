import { join } from 'node:path';
import { newId } from '../base/index.ts';
import { clusterSpecFromJson, type SwarmPort, type SystemPort } from '../api/index.ts';
import type { Engine } from '../engine/index.ts';
import { inspectBackup } from '../manager/index.ts';
import { ClusterSpec } from '../proto/index.ts';
import type { HostNetwork } from '../overlay-net/index.ts';
import type { ClusterNode } from './cluster.ts';
import type { DaemonConfig } from './config.ts';
import type { EventHub } from './events.ts';
import { daemonMetrics } from './metrics.ts';
import { systemInfo } from './system-info.ts';
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

export interface SystemFacts {
  config: DaemonConfig;
  engine: Engine;
  networks: Pick<HostNetwork, 'repairs'>;
  hub: EventHub;
  version: string;
  gitCommit: string;
  storageDriver: string;
  /** Why layers are copied although overlayfs was preferred. */
  storageFallback: string | undefined;
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
  storageFallback,
}: SystemFacts): SystemPort {
  return {
    version,
    gitCommit,
    storageDriver,
    info: async () => systemInfo({ config, engine, hub, storageDriver, storageFallback }),
    components: () => {
      const { runtime, conmonVersion } = engine.info();
      return [
        { name: runtime.name, version: runtime.version },
        { name: 'conmon', version: conmonVersion },
      ];
    },
    events: (query, signal) => hub.stream(query, signal),
    metrics: () => daemonMetrics({ engine, hub, repairs: networks.repairs, version, gitCommit }),
    temporaryFile: () => join(config.dataRoot, 'tmp', newId()),
  };
}
