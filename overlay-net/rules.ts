import { errorMessage, type Logger } from '../base/index.ts';
import type { NetworkTable } from '../proto/index.ts';
import { hash32, type IngressWiring } from './ingress-wiring.ts';
import type { Kernel } from './kernel/index.ts';
import type { Loopback6 } from './loopback6.ts';
import { OPTION_ICC, OPTION_MASQUERADE, type LocalNetworks } from './local-networks.ts';
import type { Overlays } from './overlays.ts';
import { linkAddresses } from './host-addresses.ts';
import { hostTable, type HostRules } from './host-table.ts';
import type { PortHolder } from './ports.ts';
import { boundRules, ingressPorts, nftFamilyOf, type NftFamily, type PortRule } from './published.ts';
import { SandboxBalancing } from './sandbox-balancing.ts';
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
  ports: PortHolder;
  loopback6: Loopback6;
  log: Logger;
}

const FAMILIES: readonly NftFamily[] = ['ip', 'ip6'];

/** Keeps the nft tables of the host and of all sandboxes as the tables demand. */
export class Rules {
  readonly #o: RulesOptions;
  /** The host's tables as last applied; empty means unknown. */
  readonly #host: Record<NftFamily, string> = { ip: '', ip6: '' };
  #warned6 = false;
  readonly #balancing: SandboxBalancing;
  #hostTurn: Promise<void> = Promise.resolve();
  /** Something could not be brought up to date; it is tried again with the next update. */
  behind = false;
  #ports: readonly PortRule[] = [];
  /** Ports of the mesh as of a table: most changes are of other networks. */
  #mesh: { table: NetworkTable | undefined; key: string; rules: PortRule[] } = { table: undefined, key: '', rules: [] };

  constructor(options: RulesOptions) {
    this.#o = options;
    this.#balancing = new SandboxBalancing(options);
  }

  get hostTableName(): string {
    return `shoal-${this.#o.tag}`;
  }

  /** Published ports of the routing mesh and of this host's containers, as last asked of the host's tables. */
  get ports(): readonly PortRule[] {
    return this.#ports;
  }

  /** Addresses of containers that are about to stop. */
  #drained(): Set<string> {
    const drained = new Set<string>();
    for (const record of this.#o.sandboxes.values()) {
      if (!record.drained) continue;
      for (const leg of record.legs) drained.add(leg.address).add(leg.address6 ?? leg.address);
    }
    return drained;
  }

  #ingressPorts(): PortRule[] {
    const { overlays } = this.#o;
    const ingress = overlays.ingress();
    if (ingress === undefined || !ingress.standing) return [];
    const drained = this.#drained();
    const key = `${overlays.underlay?.nodeId ?? ''} ${[...drained].sort().join()}`;
    if (this.#mesh.table !== ingress.table || this.#mesh.key !== key) {
      const rules = ingressPorts(ingress.table, drained, overlays.underlay?.nodeId ?? '');
      this.#mesh = { table: ingress.table, key, rules };
    }
    const { rules } = this.#mesh;
    // Rules for the tunnels' own port would take the tunnels' datagrams.
    return rules.filter(({ protocol, port }) => protocol !== 'udp' || port !== overlays.underlay?.dataPathPort);
  }

  #hostPorts(): PortRule[] {
    const rules: PortRule[] = [];
    for (const { legs, result, ...record } of this.#o.sandboxes.values()) {
      // Each family goes by the leg that carries its default route.
      for (const address of [record.defaultAddress, record.defaultAddress6 ?? '']) {
        // A macvlan has no port of this host: it cannot be reached from here.
        if (address === '' || legs.some((leg) => leg.hostLink === '' && leg.address === address)) continue;
        const ingress = legs.some((leg) => leg.kind === 'ingress' && [leg.address, leg.address6].includes(address));
        for (const { protocol, publishedPort, hostIp, targetPort } of result.ports) {
          rules.push({ protocol, port: publishedPort, hostIp, targets: [{ address, port: targetPort }], ingress });
        }
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
    const { locals, overlays, wiring, tag, hostRules } = this.#o;
    if (!hostRules) return;
    const { underlay } = overlays;
    const peers = new Set(overlays.all().flatMap((overlay) => overlay.plan.peers));
    const mesh = this.#ingressPorts();
    this.#ports = boundRules([...mesh, ...this.#hostPorts()], linkAddresses);
    const rules: HostRules = {
      table: this.hostTableName,
      mark: wiring.mark,
      bridges: locals.bridges().map((network) => ({
        name: locals.bridgeName(network),
        subnet: network.subnet,
        subnet6: network.subnet6,
        internal: network.internal,
        masquerade: network.options[OPTION_MASQUERADE] !== 'false',
        apart: network.options[OPTION_ICC] === 'false',
      })),
      ingressLink: overlays.ingress()?.standing === true ? wiring.hostLink : undefined,
      ports: this.#ports,
      loopback6: this.#o.loopback6.standing ? this.#o.loopback6.rules : undefined,
      dataPath:
        underlay === undefined
          ? undefined
          : { port: underlay.dataPathPort, family: nftFamilyOf(underlay.vtep), peers: [...peers].sort() },
      seed: hash32(underlay?.vtep ?? tag),
    };
    this.#o.ports.holdIngress(boundRules(mesh, linkAddresses));
    await this.#applyTable('ip', hostTable(rules, 'ip'));
    try {
      await this.#applyTable('ip6', hostTable(rules, 'ip6'));
    } catch (error) {
      // A kernel without IPv6 tables has no IPv6 clients either.
      if (!this.#warned6) this.#o.log.warn('cannot set the IPv6 rules of this host', { error: errorMessage(error) });
      this.#warned6 = true;
    }
  }

  async #applyTable(family: NftFamily, text: string): Promise<void> {
    if (text === this.#host[family]) return;
    await this.#o.kernel.nft(null, text);
    this.#host[family] = text;
  }

  /** Brings every sandbox's balancing up to date. Failures are logged and tried again next time. */
  async applySandboxes(): Promise<void> {
    this.behind = false;
    if (!(await this.#balancing.apply(this.#drained()))) this.behind = true;
  }

  /** The first rules of a sandbox just made. @throws ShoalError */
  applyOne(record: SandboxRecord): Promise<void> {
    return this.#balancing.applyFirst(record, this.#drained());
  }

  forget(sandboxId: string): void {
    this.#balancing.forget(sandboxId);
  }

  /** The host's tables as they were last put in place; empty when they were not. */
  get hostText(): string {
    return FAMILIES.map((family) => this.#host[family]).join('');
  }

  /** Lets the host's tables be replaced whole next time. */
  forgetHost(): void {
    for (const family of FAMILIES) this.#host[family] = '';
  }

  /** The table that a sandbox shall hold by now; undefined when it has none. */
  sandboxText(sandboxId: string): string | undefined {
    return this.#balancing.text(sandboxId);
  }

  async removeHost(): Promise<void> {
    const name = this.hostTableName;
    for (const family of FAMILIES) {
      this.#host[family] = '';
      await this.#o.kernel.nft(null, `add table ${family} ${name}\ndelete table ${family} ${name}\n`);
    }
  }
}
