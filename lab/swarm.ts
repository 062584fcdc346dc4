import { httpJson } from '../base/index.ts';
import type { HostFacts } from './names.ts';

/** Forms a swarm: init on the first host, the others join by token in their role. */
export async function formSwarm(hosts: readonly HostFacts[]): Promise<void> {
  const [first, ...others] = hosts;
  if (first === undefined) return;
  await httpJson({
    host: first.docker_host,
    method: 'POST',
    path: '/swarm/init',
    body: { ListenAddr: '0.0.0.0:2377', AdvertiseAddr: first.address },
  });
  interface Swarm {
    JoinTokens: { Worker: string; Manager: string };
  }
  const { JoinTokens: tokens } = await httpJson<Swarm>({ host: first.docker_host, method: 'GET', path: '/swarm' });
  const join = async (host: HostFacts): Promise<void> => {
    await httpJson({
      host: host.docker_host,
      method: 'POST',
      path: '/swarm/join',
      body: {
        ListenAddr: '0.0.0.0:2377',
        AdvertiseAddr: host.address,
        RemoteAddrs: [`${first.address}:2377`],
        JoinToken: host.role === 'manager' ? tokens.Manager : tokens.Worker,
      },
    });
  };
  // Managers one after another: each changes the membership of the raft group.
  for (const host of others.filter((other) => other.role === 'manager')) await join(host);
  await Promise.all(others.filter((other) => other.role === 'worker').map(join));
}
