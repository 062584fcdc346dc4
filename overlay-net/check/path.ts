/** The kernel's entries of one network on this host, compared with the plan. */
import { errorMessage } from '../../base/index.ts';
import { NetworkFault_Kind } from '../../proto/index.ts';
import { bareIp, macOf } from '../ip4.ts';
import type { NamespaceState } from '../kernel/index.ts';
import type { Overlay } from '../overlays.ts';
import { planIngress, planOverlay } from '../live-plan.ts';
import { BRIDGE_LINK, itemsOf, VXLAN_LINK, type Items } from '../plan.ts';
import { differences } from './compare.ts';
import type { Findings } from './findings.ts';
import type { CheckOptions, LocalTask } from './view.ts';

/** What differs is looked at again after this time, as tables may be on their way into the kernel, ms. */
const SECOND_LOOK_MS = 400;

interface Wrong {
  key: string;
  words: string;
}

function linkFaults(state: NamespaceState, name: string, mtu: number | undefined, where: string): Wrong[] {
  const link = state.links.find((one) => one.name === name);
  const key = `link ${name}`;
  if (link === undefined) return [{ key, words: `link ${name} is missing in ${where}` }];
  if (!link.up) return [{ key, words: `link ${name} is down in ${where}` }];
  if (mtu === undefined || link.mtu === mtu) return [];
  return [{ key, words: `link ${name} in ${where} has MTU ${link.mtu}, it must have ${mtu}` }];
}

function planned(overlay: Overlay, options: CheckOptions): Items {
  const plan = overlay.facts.ingress ? planIngress : planOverlay;
  return plan(overlay.table, options.overlays.underlay);
}

/** Links and entries of the network's own namespace. */
async function ownNamespace(overlay: Overlay, tasks: readonly LocalTask[], options: CheckOptions): Promise<Wrong[]> {
  const where = `the namespace of network ${overlay.facts.name}`;
  const state = await options.kernel.state(overlay.namespace);
  const tunnel = options.overlays.underlay === undefined ? [] : [VXLAN_LINK];
  return [
    ...[BRIDGE_LINK, ...tunnel].flatMap((name) => linkFaults(state, name, overlay.mtu, where)),
    ...tasks.flatMap(({ name, leg }) => linkFaults(state, leg.hostLink, undefined, `${where} (it leads to ${name})`)),
    ...differences(planned(overlay, options), itemsOf(state)).map(({ key, words }) => ({
      key,
      words: `${words}, in ${where}`,
    })),
  ];
}

/** Link and address inside one container. */
async function container(task: LocalTask, overlay: Overlay, options: CheckOptions): Promise<Wrong[]> {
  const where = `container of ${task.name}`;
  const { namespacePath, endpoints } = task.record.result;
  const state = await options.kernel.state(namespacePath);
  const endpoint = endpoints.find((one) => bareIp(one.address) === task.leg.address);
  const name = endpoint?.interfaceName ?? '';
  const faults = name === '' ? [] : linkFaults(state, name, overlay.mtu, where);
  if (state.addresses.some(({ address }) => bareIp(address) === task.leg.address)) return faults;
  return [...faults, { key: `address ${where}`, words: `address ${task.leg.address} is missing in the ${where}` }];
}

async function look(overlay: Overlay, tasks: readonly LocalTask[], options: CheckOptions): Promise<Wrong[]> {
  const found: Wrong[] = [];
  const attempt = async (what: string, run: () => Promise<Wrong[]>): Promise<void> => {
    try {
      found.push(...(await run()));
    } catch (error) {
      found.push({ key: what, words: `${what} cannot be looked at: ${errorMessage(error)}` });
    }
  };
  await attempt(`the namespace of network ${overlay.facts.name}`, () => ownNamespace(overlay, tasks, options));
  for (const task of tasks) await attempt(`container of ${task.name}`, () => container(task, overlay, options));
  return found;
}

/** Which host an entry leads to, by the entry's key in the plan. */
function peersByKey(overlay: Overlay): Map<string, string> {
  const peers = new Map<string, string>();
  for (const { address, mac, node_id: node } of overlay.table.endpoints) {
    if (address === '') continue;
    const ip = bareIp(address);
    for (const key of [`neigh ${ip}`, `fdb ${mac || macOf(ip)}`, `route main ${ip}/32`]) peers.set(key, node);
  }
  for (const { vtep, node_id: node } of overlay.table.peers) {
    if (vtep !== '' && !vtep.includes(':'))
      for (const key of [`neigh ${vtep}`, `fdb ${macOf(vtep)}`]) peers.set(key, node);
  }
  return peers;
}

/** Looks at every entry; what is wrong twice is a fault. @returns the number of entries that were compared */
export async function checkPath(
  overlay: Overlay,
  tasks: readonly LocalTask[],
  findings: Findings,
  options: CheckOptions,
): Promise<number> {
  if (!overlay.standing) {
    const why = overlay.fault === undefined ? 'it is not set up yet' : errorMessage(overlay.fault);
    findings.add(NetworkFault_Kind.PATH, '', `network ${overlay.facts.name} does not stand on this host: ${why}`);
  }
  let wrong = await look(overlay, tasks, options);
  if (wrong.length > 0) {
    const before = new Set(wrong.map(({ words }) => words));
    await options.clock.sleep(SECOND_LOOK_MS);
    wrong = (await look(overlay, tasks, options)).filter(({ words }) => before.has(words));
  }
  const peers = peersByKey(overlay);
  for (const { key, words } of wrong) findings.add(NetworkFault_Kind.PATH, peers.get(key) ?? '', words);
  const links = 2 + tasks.length * 3;
  return links + planned(overlay, options).size;
}
