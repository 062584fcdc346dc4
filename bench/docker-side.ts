import { httpJson, must } from '../base/index.ts';
import { dockerdAnswers, formSwarm, launchDockerd, type Lab } from '../lab/index.ts';
import type { Side } from './hosts.ts';

interface Version {
  Version: string;
  Components?: { Name: string; Version: string }[];
}

/**
 * Starts dockerds on hosts like Shoal's: the same namespaces, bridge and cgroups, another daemon. They form a swarm
 * unless `swarm` is false.
 */
export async function startDocker(
  lab: Lab,
  dockerd: string,
  managers: number,
  workers: number,
  swarm = true,
): Promise<Side> {
  const hosts = await lab.up({ managers, workers, subnet: '', swarm: false, daemonFlags: [], daemons: false });
  for (const host of hosts) launchDockerd(lab, dockerd, host.name);
  await Promise.all(hosts.map((host) => dockerdAnswers(lab, host.name)));
  if (swarm) await formSwarm(hosts);
  const host = must(hosts[0], 'first host').docker_host;
  const version = await httpJson<Version>({ host, method: 'GET', path: '/version' });
  const info = await httpJson<{ Driver: string; CgroupDriver: string; CgroupVersion: string }>({
    ...{ host, method: 'GET', path: '/info' },
  });
  const parts = (version.Components ?? []).map((part) => `${part.Name} ${part.Version}`);
  return {
    ...{ name: 'docker', version: version.Version, lab, hosts },
    configuration: [
      'dockerd on each host with a containerd of its own, default settings except paths and cgroup parent',
      `storage driver ${info.Driver}, cgroup driver ${info.CgroupDriver}, cgroup v${info.CgroupVersion}, iptables on`,
      parts.join(', '),
    ],
  };
}
