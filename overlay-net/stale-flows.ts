import { errorMessage, type Clock, type Logger } from '../base/index.ts';
import type { NetworkTable } from '../proto/index.ts';
import { Coalescer } from './coalescer.ts';
import { canonicalIp } from './ip.ts';
import { contains, parseIp, parsePrefix } from './ip4.ts';
import type { Kernel } from './kernel/index.ts';
import type { LocalNetworks } from './local-networks.ts';
import type { Overlays } from './overlays.ts';
import { addressesOf } from './plan.ts';
import type { PortRule } from './published.ts';
import { changeOf } from './table-change.ts';
import type { SandboxRecord } from './store.ts';

/** Each look at a namespace's flows costs a walk over the kernel's table, so looks are few. */
const INTERVAL_MS = 500;
/** Namespaces of containers looked at in one pass; the others wait for the next. */
const SANDBOXES_PER_PASS = 16;

export interface StaleFlowsOptions {
  kernel: Kernel;
  overlays: Overlays;
  locals: LocalNetworks;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  clock: Clock;
  log: Logger;
}

/**
 * Forgets UDP flows to tasks that are gone. The kernel keeps a flow's translation as long as packets come, so a client
 * that never pauses would talk to a dead address for ever. Draining tasks keep their flows; TCP ends by itself.
 */
export class StaleFlows {
  readonly #o: StaleFlowsOptions;
  readonly #pass: Coalescer;
  /** Targets of published UDP ports; undefined until this life has looked what an earlier one left. */
  #targets: Set<string> | undefined;
  /** Tasks at each address of each overlay network, as last seen. */
  readonly #members = new Map<string, { table: NetworkTable; tasksAt: Map<string, number> }>();
  readonly #goneOfHost = new Set<string>();
  /** Addresses to forget, by sandbox. */
  readonly #goneOfSandbox = new Map<string, Set<string>>();

  constructor(options: StaleFlowsOptions) {
    this.#o = options;
    this.#pass = new Coalescer(
      options.clock,
      INTERVAL_MS,
      () => this.#forget(),
      (error) => options.log.warn('cannot forget flows of tasks that are gone', { error: errorMessage(error) }),
    );
  }

  /** To be called after the rules followed a change. @param ports as they stand in the host's tables now. */
  note(ports: readonly PortRule[]): void {
    const alive = this.#alive();
    if (this.#targets !== undefined) {
      for (const address of this.#targets) if (!alive(address)) this.#goneOfHost.add(address);
    }
    const udp = ports.filter(({ protocol }) => protocol === 'udp').flatMap(({ targets }) => targets);
    const kept = [...(this.#targets ?? [])].filter((address) => alive(address));
    if (this.#targets !== undefined)
      this.#targets = new Set([...kept, ...udp.map(({ address }) => canonicalIp(address))]);
    this.#noteOverlays();
    const unseen = this.#targets === undefined && this.#o.overlays.ingress()?.standing === true;
    if (unseen || this.#goneOfHost.size > 0 || this.#goneOfSandbox.size > 0) this.#pass.request();
  }

  async close(): Promise<void> {
    await this.#pass.close();
  }

  /** Follows a network's table; returns the addresses that nobody has any more. */
  #follow(networkId: string, table: NetworkTable): string[] {
    const known = this.#members.get(networkId);
    if (known?.table === table) return [];
    const { endpoints } = changeOf(known?.table, table);
    const tasksAt = known?.tasksAt ?? new Map<string, number>();
    const left = new Set<string>();
    for (const { before } of endpoints) {
      for (const address of before === undefined ? [] : addressesOf(before)) {
        const rest = (tasksAt.get(address) ?? 1) - 1;
        left.add(address);
        if (rest > 0) tasksAt.set(address, rest);
        else tasksAt.delete(address);
      }
    }
    for (const { after } of endpoints) {
      for (const address of after === undefined ? [] : addressesOf(after)) {
        tasksAt.set(address, (tasksAt.get(address) ?? 0) + 1);
      }
    }
    this.#members.set(networkId, { table, tasksAt });
    return [...left].filter((address) => !tasksAt.has(address));
  }

  #noteOverlays(): void {
    for (const { facts, table } of this.#o.overlays.all()) {
      const gone = this.#follow(facts.id, table);
      if (facts.ingress || gone.length === 0) continue;
      for (const { spec, legs } of this.#o.sandboxes.values()) {
        if (!legs.some(({ networkId }) => networkId === facts.id)) continue;
        const known = this.#goneOfSandbox.get(spec.id) ?? new Set();
        for (const address of gone) known.add(address);
        this.#goneOfSandbox.set(spec.id, known);
      }
    }
    for (const id of this.#members.keys()) if (this.#o.overlays.get(id) === undefined) this.#members.delete(id);
  }

  /** Whether published ports may lead to an address. */
  #alive(): (address: string) => boolean {
    const ingress = this.#o.overlays.ingress();
    if (ingress !== undefined) this.#follow(ingress.facts.id, ingress.table);
    const tasksAt = ingress === undefined ? undefined : this.#members.get(ingress.facts.id)?.tasksAt;
    // A container that still stops has no place on the mesh any more.
    const legs = [...this.#o.sandboxes.values()]
      .flatMap((record) => record.legs)
      .filter(({ kind }) => kind !== 'ingress');
    const here = legs.flatMap(({ address, address6 }) => [address, address6 ?? '']).filter((one) => one !== '');
    const own = new Set(here.map(canonicalIp));
    return (address) => own.has(address) || tasksAt?.has(address) === true;
  }

  async #forget(): Promise<void> {
    const { kernel, sandboxes, log } = this.#o;
    if (this.#targets === undefined && this.#o.overlays.ingress()?.standing === true) await this.#firstLook();
    const alive = this.#alive();
    const gone = [...this.#goneOfHost].filter((address) => !alive(address));
    this.#goneOfHost.clear();
    let count = await kernel.forgetFlows(null, gone);
    let passed = 0;
    for (const [id, addresses] of this.#goneOfSandbox) {
      if (passed++ >= SANDBOXES_PER_PASS) break;
      this.#goneOfSandbox.delete(id);
      const record = sandboxes.get(id);
      if (record !== undefined) count += await kernel.forgetFlows(record.result.namespacePath, [...addresses]);
    }
    if (count > 0) log.info('UDP flows to tasks that are gone were forgotten', { count });
    if (this.#goneOfSandbox.size > 0) this.#pass.request();
  }

  /** Flows that an earlier life left behind: to addresses of our networks that nobody has now. */
  async #firstLook(): Promise<void> {
    const { kernel, overlays, locals } = this.#o;
    const subnets = [overlays.ingress()?.facts.subnet ?? '', ...locals.bridges().map(({ subnet }) => subnet)];
    const prefixes = subnets.filter((subnet) => subnet !== '').map(parsePrefix);
    const found = [...(await kernel.flowTargets(null))].filter((target) => !target.includes(':'));
    const ours = found.filter((target) => prefixes.some((prefix) => contains(prefix, parseIp(target))));
    const alive = this.#alive();
    for (const target of ours) if (!alive(target)) this.#goneOfHost.add(target);
    this.#targets = new Set(ours.filter((target) => alive(target)));
  }
}
