/** Whether this host's containers reach those of every host on the network, and with packets of which size. */
import { errorMessage } from '../../base/index.ts';
import { NetworkCheckPair, NetworkFault_Kind, type NetworkEndpoint } from '../../proto/index.ts';
import { bareIp } from '../ip4.ts';
import type { Overlay } from '../overlays.ts';
import { tryConnect } from './connect.ts';
import type { Findings } from './findings.ts';
import { echo, type EchoOutcome, type EchoTarget } from './icmp.ts';
import { addressesOf, median, placeOf, type CheckOptions, type LocalTask } from './view.ts';

/** Containers that each container tries, over all hosts. */
const TARGETS_MAX = 64;
/** Services whose virtual address each container tries. */
const SERVICES_MAX = 16;
const ANSWER_TIMEOUT_MS = 1000;
/** What is silent is tried again after this time: a task may just have ended, ms. */
const SECOND_LOOK_MS = 1000;
/** A port that hardly anything listens on (discard): a refusal proves the way as well as an answer does. */
const PROBE_PORT = 9;

/** Sums for one host, over all containers of this one. */
interface Tally {
  asked: number;
  answered: number;
  rttsUs: number[];
  mtu: number;
  mtuRight: boolean;
}

interface Target {
  node: string;
  /** Words for people. */
  place: string;
  address: string;
  /** Whether the target is still meant to answer. */
  wanted: () => boolean;
}

/** Endpoints spread over the hosts: first one of each, then the second of each, and so on. */
export function spread(endpoints: readonly NetworkEndpoint[], max: number): NetworkEndpoint[] {
  const byNode = new Map<string, NetworkEndpoint[]>();
  for (const endpoint of endpoints) {
    const list = byNode.get(endpoint.node_id);
    if (list === undefined) byNode.set(endpoint.node_id, [endpoint]);
    else list.push(endpoint);
  }
  const chosen: NetworkEndpoint[] = [];
  for (let round = 0; chosen.length < Math.min(max, endpoints.length); round++) {
    for (const list of byNode.values()) {
      const one = list[round];
      if (one !== undefined && chosen.length < max) chosen.push(one);
    }
  }
  return chosen;
}

const words = (outcome: EchoOutcome): string => (outcome.kind === 'error' ? outcome.words : 'no answer');

/** The check of reachability and MTU of one network. */
export class ReachCheck {
  readonly #overlay: Overlay;
  readonly #findings: Findings;
  readonly #options: CheckOptions;
  readonly #tallies = new Map<string, Tally>();
  /** Hosts that packets of full size were tried to. */
  readonly #sized = new Set<string>();
  readonly #silentNodes = new Map<string, number>();

  constructor(overlay: Overlay, findings: Findings, options: CheckOptions) {
    this.#overlay = overlay;
    this.#findings = findings;
    this.#options = options;
  }

  #tally(node: string): Tally {
    let tally = this.#tallies.get(node);
    if (tally === undefined) {
      tally = { asked: 0, answered: 0, rttsUs: [], mtu: 0, mtuRight: true };
      this.#tallies.set(node, tally);
    }
    return tally;
  }

  #serving(address: string): boolean {
    return this.#overlay.table.endpoints.some((one) => one.serving && addressesOf(one).includes(address));
  }

  #targets(from: LocalTask): Target[] {
    const { table } = this.#overlay;
    const others = table.endpoints.filter((one) => one.serving && bareIp(one.address) !== from.leg.address);
    const tasks = spread(others, TARGETS_MAX).flatMap((endpoint) =>
      addressesOf(endpoint).map((address) => ({
        node: endpoint.node_id,
        place: placeOf(endpoint, address),
        address,
        wanted: () => this.#serving(address),
      })),
    );
    return [...tasks, ...this.#virtual()];
  }

  /** Virtual addresses; whichever host answers for them. The ingress network's are balanced by hosts, not containers. */
  #virtual(): Target[] {
    const { table, facts } = this.#overlay;
    if (facts.ingress) return [];
    const alive = (id: string): boolean => this.#overlay.table.endpoints.some((e) => e.serving && e.service_id === id);
    return table.services
      .filter((service) => service.vip !== '' && alive(service.service_id))
      .slice(0, SERVICES_MAX)
      .map((service) => ({
        node: '',
        place: `the virtual address ${bareIp(service.vip)} of service ${service.name}`,
        address: bareIp(service.vip),
        wanted: () => alive(service.service_id),
      }));
  }

  /** From one container to all it should reach. */
  async from(task: LocalTask): Promise<void> {
    const { clock } = this.#options;
    const namespace = task.record.result.namespacePath;
    try {
      const targets = this.#targets(task);
      const silent = await this.#round(namespace, targets, true);
      if (silent.length > 0) {
        await clock.sleep(SECOND_LOOK_MS);
        const again = silent.map(({ target }) => target).filter((target) => target.wanted());
        for (const { target, outcome } of await this.#round(namespace, again, false)) {
          await this.#lastTry(task, target, outcome);
        }
      }
      await this.#sizes(task, targets);
    } catch (error) {
      const said = `${task.name}: nothing can be sent from its container: ${errorMessage(error)}`;
      this.#findings.add(NetworkFault_Kind.REACHABILITY, '', said);
    }
  }

  /** @returns targets that did not answer. */
  async #round(
    namespace: string,
    targets: readonly Target[],
    first: boolean,
  ): Promise<{ target: Target; outcome: EchoOutcome }[]> {
    const outcomes = await echo(namespace, targets, { ...this.#options, timeoutMs: ANSWER_TIMEOUT_MS });
    const silent: { target: Target; outcome: EchoOutcome }[] = [];
    for (const [index, target] of targets.entries()) {
      const outcome = outcomes[index] ?? { kind: 'silent' };
      const tally = this.#tally(target.node);
      if (first) tally.asked++;
      if (outcome.kind !== 'answered') {
        silent.push({ target, outcome });
        continue;
      }
      tally.answered++;
      tally.rttsUs.push(outcome.rttUs);
    }
    return silent;
  }

  /** A container may forbid echo requests: then a connection to it tells. */
  async #lastTry(task: LocalTask, target: Target, outcome: EchoOutcome): Promise<void> {
    const probe = { protocol: 'tcp', address: target.address, port: PROBE_PORT } as const;
    const { kind } = await tryConnect(task.record.result.namespacePath, probe, {
      clock: this.#options.clock,
      timeoutMs: ANSWER_TIMEOUT_MS,
    });
    if (kind === 'open' || kind === 'closed') {
      this.#tally(target.node).answered++;
      return;
    }
    const said = `${task.name} (${task.leg.address}) does not reach ${target.place}: ${words(outcome)}`;
    this.#silentNodes.set(target.node, (this.#silentNodes.get(target.node) ?? 0) + 1);
    this.#findings.add(NetworkFault_Kind.REACHABILITY, target.node, said);
  }

  /** To one container of each host: a packet of full size passes, one byte more is refused. */
  async #sizes(task: LocalTask, targets: readonly Target[]): Promise<void> {
    const { mtu } = this.#overlay;
    const chosen: Target[] = [];
    for (const target of targets) {
      if (target.node === '' || this.#sized.has(target.node) || this.#silentNodes.has(target.node)) continue;
      this.#sized.add(target.node);
      chosen.push(target);
    }
    const requests: EchoTarget[] = chosen.flatMap(({ address }) => [
      { address, bytes: mtu },
      { address, bytes: mtu + 1 },
    ]);
    const namespace = task.record.result.namespacePath;
    const outcomes = await echo(namespace, requests, { ...this.#options, timeoutMs: ANSWER_TIMEOUT_MS });
    for (const [index, target] of chosen.entries()) {
      const full = outcomes[index * 2] ?? { kind: 'silent' };
      const over = outcomes[index * 2 + 1] ?? { kind: 'silent' };
      const tally = this.#tally(target.node);
      tally.mtu = mtu;
      tally.mtuRight &&= full.kind === 'answered' && over.kind === 'refused';
      if (full.kind !== 'answered' && target.wanted()) {
        const why = full.kind === 'refused' ? 'its own link refuses it' : words(full);
        const said = `a packet of ${mtu} bytes from ${task.name} to ${target.place} does not pass: ${why}`;
        this.#findings.add(NetworkFault_Kind.MTU, target.node, said);
      }
      if (over.kind === 'answered') {
        const said = `a packet of ${mtu + 1} bytes from ${task.name} to ${target.place} passes; its link's MTU is too large`;
        this.#findings.add(NetworkFault_Kind.MTU, target.node, said);
      }
    }
  }

  /** Hosts none of whose containers answered. */
  unreached(): Set<string> {
    const found = new Set<string>();
    for (const [node, { asked, answered }] of this.#tallies)
      if (node !== '' && asked > 0 && answered === 0) found.add(node);
    return found;
  }

  pairs(): NetworkCheckPair[] {
    return [...this.#tallies].map(([node, tally]) =>
      NetworkCheckPair.create({
        node_id: node,
        asked: tally.asked,
        answered: tally.answered,
        rtt_us: median(tally.rttsUs),
        mtu: tally.mtu,
        mtu_right: tally.mtuRight,
      }),
    );
  }
}
