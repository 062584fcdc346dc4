import { readFileSync } from 'node:fs';
import { readFileIfExists } from '../base/index.ts';
import type { HostFacts, Lab } from '../lab/index.ts';
import { processesIn } from '../lab/index.ts';

/** A swarm of hosts under test, whoever's daemons run on them; speaks the Docker Engine API at every host. */
export interface Side {
  name: 'shoal' | 'docker';
  /** Version as `GET /version` tells it. */
  version: string;
  lab: Lab;
  hosts: readonly HostFacts[];
  /** How it was set up, in words for the reader of the results. */
  configuration: readonly string[];
}

/** Memory of a host's own processes, by what they are; kB. */
export interface HostMemory {
  host: string;
  /** The daemon and its lasting helpers: peak of resident memory (VmHWM), summed over processes. */
  daemonsPeakRssKb: number;
  /** The processes that stand by each container (conmon, containerd-shim): the same sum. */
  monitorsPeakRssKb: number;
  daemons: number;
  monitors: number;
}

const MONITORS = /^(conmon|containerd-shim)/;

/** Resident memory now, kB, summed over processes. */
export interface MemoryNow {
  /** The daemon and its lasting helpers. */
  daemons: number;
  /** The processes that stand by containers. */
  monitors: number;
  /** The containers' own. */
  containers: number;
}

/** Resident memory (VmRSS) of all processes of a host now. */
export function memoryNow(lab: Lab, host: string): MemoryNow {
  const cgroup = lab.names.hostCgroup(host);
  const inside = new Set(processesIn(`${cgroup}/containers`));
  const memory: MemoryNow = { daemons: 0, monitors: 0, containers: 0 };
  for (const pid of new Set(processesIn(cgroup))) {
    if (pid === lab.holder(host)) continue;
    const status = readFileIfExists(`/proc/${pid}/status`) ?? '';
    const kb = Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    if (inside.has(pid)) memory.containers += kb;
    else if (MONITORS.test(/^Name:\s+(\S+)/m.exec(status)?.[1] ?? '')) memory.monitors += kb;
    else memory.daemons += kb;
  }
  return memory;
}

/** Measures the processes of a host now; those of its containers are not counted. */
export function hostMemory(lab: Lab, host: string): HostMemory {
  const cgroup = lab.names.hostCgroup(host);
  const inside = new Set(processesIn(`${cgroup}/containers`));
  const memory: HostMemory = { host, daemonsPeakRssKb: 0, monitorsPeakRssKb: 0, daemons: 0, monitors: 0 };
  for (const pid of new Set(processesIn(cgroup))) {
    if (inside.has(pid) || pid === lab.holder(host)) continue;
    let status: string;
    try {
      status = readFileSync(`/proc/${pid}/status`, 'utf8');
    } catch {
      // It has just ended.
      continue;
    }
    const peakKb = Number(/^VmHWM:\s+(\d+)/m.exec(status)?.[1] ?? 0);
    if (MONITORS.test(/^Name:\s+(\S+)/m.exec(status)?.[1] ?? '')) {
      memory.monitorsPeakRssKb += peakKb;
      memory.monitors += 1;
    } else {
      memory.daemonsPeakRssKb += peakKb;
      memory.daemons += 1;
    }
  }
  return memory;
}
