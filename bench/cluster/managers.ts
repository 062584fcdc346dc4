import { httpJson, must, retry, ShoalError, systemClock, systemRandom } from '../../base/index.ts';
import type { HostFacts } from '../../lab/index.ts';

/** Never pulled: no container is made of it. */
export const NO_IMAGE = `registry.invalid/bench@sha256:${'0'.repeat(64)}`;
/** Port of managers. */
export const PORT = 2377;

/** Managers take no tasks: their own agents would make real containers. */
export async function drainManagers(
  leader: HostFacts,
  hosts: readonly HostFacts[],
  signal: AbortSignal,
): Promise<void> {
  const host = leader.docker_host;
  interface ApiNode {
    ID: string;
    Version: { Index: number };
    Spec: Record<string, unknown>;
    Status: { State: string };
  }
  const drain = async (): Promise<void> => {
    const nodes = await httpJson<ApiNode[]>({ host, method: 'GET', path: '/nodes' });
    const ready = nodes.filter((node) => node.Status.State === 'ready');
    if (ready.length < hosts.length) throw new ShoalError('Unavailable', 'the managers are not ready yet');
    for (const node of ready.filter((one) => one.Spec['Availability'] !== 'drain')) {
      const path = `/nodes/${node.ID}/update?version=${node.Version.Index}`;
      await httpJson({ host, method: 'POST', path, body: { ...node.Spec, Availability: 'drain' } });
    }
  };
  // A node that reports meanwhile makes the version that was read an old one.
  await retry(drain, { attempts: 20, baseMs: 200, capMs: 1000, clock: systemClock, random: systemRandom, signal });
}

/** The host whose manager leads now. */
export async function findLeader(hosts: readonly HostFacts[]): Promise<HostFacts> {
  const host = must(hosts[0], 'first manager').docker_host;
  interface ApiNode {
    ManagerStatus?: { Leader?: boolean; Addr: string };
  }
  const nodes = await httpJson<ApiNode[]>({ host, method: 'GET', path: '/nodes' });
  const addr = nodes.find((node) => node.ManagerStatus?.Leader === true)?.ManagerStatus?.Addr ?? '';
  const leader = hosts.find((one) => addr === `${one.address}:${PORT}`);
  if (leader === undefined) throw new ShoalError('Unavailable', 'no manager leads');
  return leader;
}
