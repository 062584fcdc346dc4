import { join } from 'node:path';
import { errorMessage, readFileIfExists, type Logger } from '../base/index.ts';
import { forwarding6Ops, hostHasIp6 } from './forwarding6.ts';
import { hash32, ulaOf } from './ingress-wiring.ts';
import { canonicalIp } from './ip.ts';
import { ip6Switches, loopback6Op } from './ip6-switches.ts';
import type { Kernel, Op } from './kernel/ops.ts';
import { DEFAULT_MTU, HOST_LINK } from './plan.ts';
import { chain, INNER_TABLE, wholeTable } from './plan-nft.ts';
import type { LocalNetworks } from './local-networks.ts';
import type { NetworkStore } from './store.ts';

/** After those of the ingress network. */
const RULE_PRIORITY = 20_011;
/** Marks of this kind begin with this byte; the daemon's tag makes the rest. */
const MARK_BASE = 0x5b000000;

export interface Loopback6Options {
  kernel: Kernel;
  store: NetworkStore;
  locals: LocalNetworks;
  tag: string;
  /** False: the host's own namespace gets no rules, so nothing leads here. */
  hostRules: boolean;
  log: Logger;
}

/** Where the host's rules send connections to ::1. */
export interface Loopback6Rules {
  link: string;
  /** Packet mark, and route table. */
  mark: number;
}

/**
 * How clients on ::1 reach ports that a container of a bridge publishes. The kernel drops packets that say ::1 when they
 * come in by a link. Where bridged frames pass the host's rules (br_netfilter), the container's replies are turned back
 * to ::1 inside the bridge, before that look; so translation must end elsewhere: these connections make a turn through a
 * namespace that translates their source once more, and end on a plain pair of links. No process copies bytes.
 */
export class Loopback6 {
  readonly #o: Loopback6Options;
  readonly namespace: string;
  readonly rules: Loopback6Rules;
  readonly hostOps: readonly Op[];
  readonly innerOps: readonly Op[];
  readonly innerText: string;
  readonly #undo: readonly Op[];
  /** It is all there, so that rules may lead to it. */
  standing = false;
  #warned = false;

  constructor(options: Loopback6Options) {
    this.#o = options;
    const hash = hash32(options.tag);
    const link = `sh${options.tag}l`;
    const mark = MARK_BASE + (hash & 0xffffff);
    const [own, inner] = ['1', '2'].map((last) => canonicalIp(`${ulaOf(hash)}:1::${last}`)) as [string, string];
    const rule = { kind: 'rule', family: 6, mark, table: mark, priority: RULE_PRIORITY } as const;
    this.namespace = join(options.store.namespaces, 'loopback6');
    this.rules = { link, mark };
    this.hostOps = [
      { kind: 'veth', name: link, mtu: DEFAULT_MTU, peer: { name: HOST_LINK, namespace: this.namespace } },
      ...ip6Switches(link),
      { kind: 'addr', dev: link, address: `${own}/126` },
      loopback6Op(link),
      { kind: 'route', to: '::/0', via: inner, dev: link, table: mark },
      rule,
    ];
    this.innerOps = [
      { kind: 'link', name: 'lo', up: true },
      { kind: 'sysctl', path: 'net/ipv6/conf/all/forwarding', value: '1' },
      ...ip6Switches(HOST_LINK),
      { kind: 'link', name: HOST_LINK, up: true },
      { kind: 'addr', dev: HOST_LINK, address: `${inner}/126` },
      { kind: 'route', to: '::/0', via: own, dev: HOST_LINK },
    ];
    const turn = ['type nat hook postrouting priority srcnat; policy accept;', `oifname "${HOST_LINK}" masquerade`];
    this.innerText = wholeTable(INNER_TABLE, chain('postrouting', turn), false, 'ip6');
    this.#undo = [
      { ...rule, del: true },
      { kind: 'link-del', name: link },
    ];
  }

  /** Takes over what an earlier life left, or takes it away where it is needed no more. @throws ShoalError */
  async start(): Promise<void> {
    await this.ensure();
    if (!this.standing) await this.remove();
  }

  /** Makes it where it does not stand and bridges have come to need it; true when it was made. A failure is told once. */
  async ensure(): Promise<boolean> {
    if (this.standing || !this.#o.hostRules || !this.#needed()) return false;
    try {
      await this.make();
    } catch (error) {
      if (!this.#warned)
        this.#o.log.warn('clients on ::1 cannot reach ports of containers', { error: errorMessage(error) });
      this.#warned = true;
    }
    return this.standing;
  }

  #needed(): boolean {
    const six = this.#o.locals.bridges().some(({ subnet6 }) => subnet6 !== '');
    return six && bridgesCallNetfilter6() && hostHasIp6();
  }

  /** Makes all of it, whatever stands. @throws ShoalError */
  async make(): Promise<void> {
    const { kernel } = this.#o;
    await kernel.createNamespace(this.namespace);
    await kernel.apply(null, [...forwarding6Ops(), ...this.hostOps]);
    await kernel.apply(this.namespace, this.innerOps);
    await this.renewRules();
    this.standing = true;
  }

  async renewRules(): Promise<void> {
    await this.#o.kernel.nft(this.namespace, this.innerText);
  }

  /** Takes away what an earlier life or this one made. @throws ShoalError */
  async remove(): Promise<void> {
    this.standing = false;
    if (hostHasIp6()) await this.#o.kernel.apply(null, this.#undo);
    this.#o.kernel.removeNamespace(this.namespace);
  }
}

/** Whether bridged frames of IPv6 pass the host's rules. */
function bridgesCallNetfilter6(): boolean {
  return (readFileIfExists('/proc/sys/net/bridge/bridge-nf-call-ip6tables') ?? '').trim() === '1';
}
