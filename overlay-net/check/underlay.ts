/** The way between hosts, below the tunnels. */
import { NetworkFault_Kind } from '../../proto/index.ts';
import { wireguardPort } from '../encryption/config.ts';
import type { Overlay } from '../overlays.ts';
import type { Findings } from './findings.ts';
import { echo } from './icmp.ts';
import type { CheckOptions } from './view.ts';

const ANSWER_TIMEOUT_MS = 1000;
/** Hosts that are asked. */
const HOSTS_MAX = 256;

/** Hosts with tasks on the network and their tunnel end points, this one left out. */
function others(overlay: Overlay, options: CheckOptions): { node: string; vtep: string }[] {
  const { underlay } = options.overlays;
  const found = new Map<string, string>();
  for (const { node_id: node, vtep } of overlay.table.endpoints) {
    if (vtep !== '' && node !== underlay?.nodeId) found.set(node, vtep);
  }
  return [...found].map(([node, vtep]) => ({ node, vtep })).slice(0, HOSTS_MAX);
}

/**
 * Asks each host's tunnel end point with a small packet and one of the underlay's full size.
 * @param unreached hosts whose containers did not answer: with them it is told what the underlay says
 */
export async function checkUnderlay(
  overlay: Overlay,
  unreached: ReadonlySet<string>,
  findings: Findings,
  options: CheckOptions,
): Promise<void> {
  const { underlay } = options.overlays;
  if (underlay === undefined) return;
  const hosts = others(overlay, options);
  const requests = hosts.flatMap(({ vtep }) => [{ address: vtep }, { address: vtep, bytes: underlay.mtu }]);
  const outcomes = await echo(null, requests, { ...options, timeoutMs: ANSWER_TIMEOUT_MS });
  for (const [index, { node, vtep }] of hosts.entries()) {
    const small = outcomes[index * 2]?.kind === 'answered';
    const full = outcomes[index * 2 + 1];
    const cut = unreached.has(node);
    if (small && full?.kind !== 'answered') {
      const said = `${vtep} answers, but not to packets of ${underlay.mtu} bytes, the MTU of this host's link: a link between has less`;
      findings.add(NetworkFault_Kind.MTU, node, said);
    } else if (small && cut) {
      const { dataPathPort } = underlay;
      const port = `UDP port ${overlay.facts.encrypted ? wireguardPort(dataPathPort) : dataPathPort}`;
      const said = `${vtep} itself answers: if no entry is wrong on either side, something between drops ${port}`;
      findings.add(NetworkFault_Kind.PATH, node, said);
    } else if (!small && cut) {
      findings.add(NetworkFault_Kind.PATH, node, `${vtep}, the host's own address, does not answer either`);
    }
  }
}
