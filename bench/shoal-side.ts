import { httpJson, must } from '../base/index.ts';
import { Lab } from '../lab/index.ts';
import type { Side } from './hosts.ts';

/** Starts Shoal on hosts of its own, as `shoal lab up` does; they form a swarm unless `swarm` is false. */
export async function startShoal(lab: Lab, managers: number, workers: number, swarm = true): Promise<Side> {
  const hosts = await lab.up({ managers, workers, subnet: '', swarm, daemonFlags: [] });
  const host = must(hosts[0], 'first host').docker_host;
  const { Components: components } = await httpJson<{ Components?: { Name: string; Version: string }[] }>({
    ...{ host, method: 'GET', path: '/version' },
  });
  const version = await httpJson<{ Version: string }>({ host, method: 'GET', path: '/version' });
  const parts = (components ?? []).map((part) => `${part.Name} ${part.Version}`);
  return {
    ...{ name: 'shoal', version: version.Version, lab, hosts },
    configuration: [`shoal daemon on each host, Node.js ${process.version}, default settings`, parts.join(', ')],
  };
}
