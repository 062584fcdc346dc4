import { setImmediate as yieldLoop } from 'node:timers/promises';
import { errorMessage, type Logger } from '../base/index.ts';
import { hash32, type IngressWiring } from './ingress-wiring.ts';
import type { Kernel } from './kernel/index.ts';
import { OPTION_ICC, OPTION_MASQUERADE, type LocalNetworks } from './local-networks.ts';
import type { Overlays } from './overlays.ts';
import { balancingOf, ingressPorts, peersOf, type PortRule } from './plan.ts';
import { balancingDiff, balancingTable, hostTable, type Balancing } from './plan-nft.ts';
import type { SandboxRecord } from './store.ts';

export interface RulesOptions {
  kernel: Kernel;
  locals: LocalNetworks;
  overlays: Overlays;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  tag: string;
  wiring: IngressWiring;
  /** False: the host's own namespace gets no rules. */
  hostRules: boolean;
  log: Logger;
}

/** Sandboxes updated before other work of the loop gets a turn. */
const SANDBOXES_PER_TURN = 8;

/** Keeps the nft tables of the host and of all sandboxes as the tables demand. */
export class Rules {
  readonly #o: RulesOptions;
  #host = '';
  /** What each sandbox's table holds; absent means unknown, so it is replaced whole. */
  readonly #balanced = new Map<string, Balancing>();

  /** Sandboxes whose first rules are under way. */
  readonly #first = new Set<string>();
  #hostTurn: Promise<void> = Promise.resolve();
  /** Something could not be brought up to date; it is tried again with the next update. */
  behind = false;

  constructor(options: RulesOptions) {
    this.#o = options;
  }

  get hostTableName(): string {
    return `shoal-${this.#o.tag}`;
  }

  /** Addresses of containers that are about to stop. */
  #drained(): Set<string> {
    const drained = new Set<string>();
    for (const record of this.#o.sandboxes.values()) {
      if (record.drained) for (const leg of record.legs) drained.add(leg.address);
    }
    return drained;
  }

  #hostPorts(): PortRule[] {
    const { overlays, sandboxes } = this.#o;
    const drained = this.#drained();
    const ingress = overlays.ingress();
    const rules = ingress === undefined || !ingress.standing ? [] : ingressPorts(ingress.table, drained);
    for (const record of sandboxes.values()) {
      if (record.defaultAddress === '') continue;
      const viaIngress = record.legs.some((leg) => leg.kind === 'ingress' && leg.address === record.defaultAddress);
      for (const { protocol, publishedPort, hostIp, targetPort } of record.result.ports) {
        const targets = [{ address: record.defaultAddress, port: targetPort }];
        rules.push({ protocol, port: publishedPort, hostIp, targets, ingress: viaIngress });
      }
    }
    return rules;
  }

  /** Brings the host's table up to date; does nothing when it is. */
  applyHost(): Promise<void> {
    const next = this.#hostTurn.then(() => this.#applyHostNow());
    this.#hostTurn = next.catch(() => {
      this.behind = true;
    });
    return next;
  }

  async #applyHostNow(): Promise<void> {
    const { kernel, locals, overlays, wiring, tag, hostRules } = this.#o;
    if (!hostRules) return;
    const { underlay } = overlays;
    const peers = new Set(overlays.all().flatMap((overlay) => peersOf(overlay.table, underlay)));
    const text = hostTable({
      table: this.hostTableName,
      mark: wiring.mark,
      bridges: locals.bridges().map((network) => ({
        name: locals.bridgeName(network),
        subnet: network.subnet,
        internal: network.internal,
        masquerade: network.options[OPTION_MASQUERADE] !== 'false',
        apart: network.options[OPTION_ICC] === 'false',
      })),
      ingressLink: overlays.ingress()?.standing === true ? wiring.hostLink : undefined,
      ports: this.#hostPorts(),
      dataPath: underlay === undefined ? undefined : { port: underlay.dataPathPort, peers: [...peers].sort() },
      seed: hash32(underlay?.vtep ?? tag),
    });
    if (text === this.#host) return;
    await kernel.nft(null, text);
    this.#host = text;
  }

  /** Brings every sandbox's balancing up to date, a few at a time. Failures are logged and tried again next time. */
  async applySandboxes(): Promise<void> {
    const drained = this.#drained();
    const perNetwork = new Map<string, Map<string, string[]>>();
    let count = 0;
    this.behind = false;
    for (const record of [...this.#o.sandboxes.values()]) {
      if (this.#first.has(record.spec.id)) continue;
      try {
        await this.#applySandbox(record, drained, perNetwork, false);
      } catch (error) {
        this.forget(record.spec.id);
        this.behind = true;
        this.#o.log.warn('cannot set the balancing of a container', { id: record.spec.id, error: errorMessage(error) });
      }
      if (++count % SANDBOXES_PER_TURN === 0) await yieldLoop();
    }
  }

  /** The first rules of a sandbox just made. @throws ShoalError */
  async applyOne(record: SandboxRecord): Promise<void> {
    this.#first.add(record.spec.id);
    try {
      await this.#applySandbox(record, this.#drained(), new Map(), true);
    } finally {
      this.#first.delete(record.spec.id);
    }
  }

  async #applySandbox(
    record: SandboxRecord,
    drained: ReadonlySet<string>,
    perNetwork: Map<string, Map<string, string[]>>,
    fresh: boolean,
  ): Promise<void> {
    const wanted = new Map<string, string[]>();
    for (const leg of record.legs) {
      if (leg.kind !== 'overlay') continue;
      const overlay = this.#o.overlays.get(leg.networkId);
      if (overlay === undefined) continue;
      let balancing = perNetwork.get(leg.networkId);
      if (balancing === undefined) perNetwork.set(leg.networkId, (balancing = balancingOf(overlay.table, drained)));
      for (const [vip, backends] of balancing) wanted.set(vip, backends);
    }
    const { id } = record.spec;
    const before = this.#balanced.get(id);
    const seed = hash32(id);
    if (before === undefined && !record.legs.some((leg) => leg.kind === 'overlay')) return;
    const text = before === undefined ? balancingTable(wanted, seed, fresh) : balancingDiff(before, wanted, seed);
    if (text !== '') await this.#o.kernel.nft(record.result.namespacePath, text, fresh);
    // A sandbox removed meanwhile must not leave an entry behind.
    if (this.#o.sandboxes.has(id)) this.#balanced.set(id, wanted);
  }

  forget(sandboxId: string): void {
    this.#balanced.delete(sandboxId);
  }

  /** The host's table as it was last put in place; empty when it was not. */
  get hostText(): string {
    return this.#host;
  }

  /** Lets the host's table be replaced whole next time. */
  forgetHost(): void {
    this.#host = '';
  }

  /** The table that a sandbox shall hold by now; undefined when it has none. */
  sandboxText(sandboxId: string): string | undefined {
    const balancing = this.#balanced.get(sandboxId);
    return balancing === undefined ? undefined : balancingTable(balancing, hash32(sandboxId), false);
  }

  async removeHost(): Promise<void> {
    this.#host = '';
    const name = this.hostTableName;
    await this.#o.kernel.nft(null, `add table ip ${name}\ndelete table ip ${name}\n`);
  }
}
