import { errorMessage, type Clock, type Logger, type Random } from '../base/index.ts';
import type { NetworkTable } from '../proto/index.ts';
import { probeResolver } from './dns/probe.ts';
import { ResolverThread } from './dns/resolver-thread.ts';
import { RESOLVER_ADDRESS } from './dns/server.ts';
import type { SandboxView } from './dns/thread-protocol.ts';
import type { Kernel } from './kernel/index.ts';
import type { LocalNetworks } from './local-networks.ts';
import type { Overlays } from './overlays.ts';
import type { Leg, NetworkStore, SandboxRecord } from './store.ts';

export interface NameServiceOptions {
  kernel: Kernel;
  store: NetworkStore;
  locals: LocalNetworks;
  overlays: Overlays;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  clock: Clock;
  random: Random;
  log: Logger;
  /** A resolver that had failed was opened again. */
  onReopened: (record: SandboxRecord) => void;
}

const overlayZoneId = (networkId: string): string => `o:${networkId}`;
/** Names that one container alone knows: its links. */
const linkZoneId = (viewerId: string, networkId: string): string => `l:${viewerId}:${networkId}`;
const memberZoneId = (networkId: string): string => `m:${networkId}`;

/** The resolvers of all sandboxes, and which names each may see. The work is done on a thread, see dns/. */
export class NameService {
  readonly #o: NameServiceOptions;
  readonly #thread: ResolverThread;
  /** Versions of the tables whose names are known. */
  readonly #versions = new Map<string, { version: number; table: WeakRef<NetworkTable> }>();
  /** Zones that each sandbox is a member of. */
  readonly #memberships = new Map<string, string[]>();

  constructor(options: NameServiceOptions) {
    this.#o = options;
    const { clock, random, log } = options;
    this.#thread = new ResolverThread({
      clock,
      random,
      log,
      onReopened: (id, port) => {
        const record = options.sandboxes.get(id);
        if (record === undefined) return;
        void this.#lead(record, port).then(
          () => options.onReopened(record),
          (error: unknown) => this.#complain(record, error),
        );
      },
    });
  }

  #complain(record: SandboxRecord, error: unknown): void {
    this.#o.log.error("a container's resolver cannot be reached", {
      id: record.spec.id,
      error: errorMessage(error),
    });
  }

  /** Takes the names of an overlay at once, whatever the kernel still has to do for it; older tables are left out. */
  setTable(table: NetworkTable): void {
    const known = this.#versions.get(table.network_id);
    if (known !== undefined && (known.table.deref() === table || table.version < known.version)) return;
    this.#versions.set(table.network_id, { version: table.version, table: new WeakRef(table) });
    const name = table.network?.spec?.annotations?.name ?? '';
    this.#thread.setZone(overlayZoneId(table.network_id), name, table);
  }

  removeTable(networkId: string): void {
    this.#versions.delete(networkId);
    this.#thread.dropZone(overlayZoneId(networkId));
  }

  /** Opens a sandbox's resolver (anew). @throws ShoalError */
  async open(record: SandboxRecord): Promise<void> {
    const { id } = record.spec;
    this.#join(record);
    const { namespacePath } = record.result;
    const port = await this.#thread.open(id, namespacePath, record.resolverPort ?? 0, this.#viewOf(record));
    await this.#lead(record, port);
  }

  /** The sandbox is on other networks, or has other names, than before. */
  refresh(record: SandboxRecord): void {
    this.#join(record);
    this.#thread.setView(record.spec.id, this.#viewOf(record));
  }

  close(sandboxId: string): void {
    this.#leave(sandboxId);
    this.#thread.close(sandboxId);
  }

  /** Ends all resolvers. */
  stop(): Promise<void> {
    return this.#thread.stop();
  }

  /** Whether a sandbox's resolver answers, asked from inside its namespace the way a container asks. Within a second. */
  answers(sandboxId: string): Promise<boolean> {
    const record = this.#o.sandboxes.get(sandboxId);
    return record === undefined ? Promise.resolve(false) : probeResolver(record.result.namespacePath, this.#o.clock);
  }

  /** Makes what a container sends to port 53 of the resolver's address reach the port that the resolver has. */
  async #lead(record: SandboxRecord, port: number): Promise<void> {
    if (record.resolverPort === port) return;
    const fresh = record.resolverPort === undefined;
    await this.#o.kernel.nft(record.result.namespacePath, resolverRules(port), fresh);
    record.resolverPort = port;
    // A record that is not saved yet is saved by who made it.
    if (!fresh) this.#o.store.saveSandbox(record);
  }

  /** nft text of a sandbox's way to its resolver; empty when it has none yet. */
  rulesText({ resolverPort }: SandboxRecord): string {
    return resolverPort === undefined ? '' : resolverRules(resolverPort);
  }

  /** Puts the way to the resolver back, whatever became of it. @throws ShoalError */
  async repair(sandboxId: string): Promise<void> {
    const record = this.#o.sandboxes.get(sandboxId);
    if (record === undefined) return;
    await this.open(record);
    await this.#o.kernel.nft(record.result.namespacePath, resolverRules(record.resolverPort ?? 0));
  }

  #viewOf(record: SandboxRecord): SandboxView {
    const { spec, result, legs } = record;
    const named = legs.filter((leg) => this.#networkName(leg) !== undefined);
    const overlays = named.filter((leg) => leg.kind === 'overlay').map((leg) => overlayZoneId(leg.networkId));
    const hasLinks = spec.endpoints.some((endpoint) => endpoint.links !== undefined);
    const links = hasLinks ? named.map((leg) => linkZoneId(spec.id, leg.networkId)) : [];
    const upstream = {
      servers: spec.dns,
      namespace: result.namespacePath,
      hostServers: record.defaultAddress !== '' || record.defaultAddress6 !== undefined,
    };
    return {
      // Overlay networks before local ones.
      zones: [...links, ...overlays, ...named.map((leg) => memberZoneId(leg.networkId))],
      upstream,
      keepsDotless: (spec.dnsOptions ?? []).some((option) => /^ndots:[1-9]/.test(option)),
    };
  }

  /** Name of the network when its containers have names there: not on the default bridge, nor on ingress. */
  #networkName(leg: Leg): string | undefined {
    if (leg.kind === 'gateway' || leg.kind === 'ingress') return undefined;
    const { overlays, locals } = this.#o;
    const name = overlays.get(leg.networkId)?.facts.name ?? locals.find(leg.networkId)?.name;
    return name === 'bridge' ? undefined : name;
  }

  /** Makes the names of a sandbox known, and those that it alone has for others. */
  #join(record: SandboxRecord): void {
    this.#announce(record);
    const targets = record.spec.endpoints.flatMap(({ links = [] }) => links.map(({ target }) => target));
    if (targets.length === 0) return;
    for (const other of this.#o.sandboxes.values()) {
      if (other !== record && targets.some((target) => isNamed(other, target))) this.#announce(other);
    }
  }

  #announce(record: SandboxRecord): void {
    const { spec, legs } = record;
    const zones: string[] = [];
    for (const leg of legs) {
      const network = this.#networkName(leg);
      if (network === undefined) continue;
      const endpoint = spec.endpoints.find((candidate) => this.#isNetwork(candidate.networkId, leg.networkId));
      // Aliases of a task are its service's, and in the table: they mean tasks that serve.
      const aliases = spec.taskId === undefined ? (endpoint?.aliases ?? []) : [];
      const addresses = [leg.address, leg.address6 ?? ''].filter((address) => address !== '');
      const names = [...spec.names, ...aliases, spec.id.slice(0, 12)];
      this.#thread.setMember(memberZoneId(leg.networkId), spec.id, { network, names, addresses });
      zones.push(memberZoneId(leg.networkId));
      for (const [viewer, own] of this.#aliasesOf(record, leg.networkId)) {
        const zone = linkZoneId(viewer, leg.networkId);
        this.#thread.setMember(zone, spec.id, { network, names: own, addresses });
        zones.push(zone);
      }
    }
    for (const zone of this.#memberships.get(spec.id) ?? []) {
      if (!zones.includes(zone)) this.#thread.dropMember(zone, spec.id);
    }
    this.#memberships.set(spec.id, zones);
  }

  /** Containers that link to one over a network, and the names they have for it. */
  #aliasesOf(record: SandboxRecord, networkId: string): Map<string, string[]> {
    const found = new Map<string, string[]>();
    for (const { spec } of this.#o.sandboxes.values()) {
      const linking = spec.endpoints.filter((endpoint) => endpoint.links !== undefined);
      const links = linking.find((endpoint) => this.#isNetwork(endpoint.networkId, networkId))?.links ?? [];
      const aliases = links.filter(({ target }) => isNamed(record, target)).map(({ alias }) => alias);
      if (aliases.length > 0) found.set(spec.id, aliases);
    }
    return found;
  }

  #leave(sandboxId: string): void {
    for (const zone of this.#memberships.get(sandboxId) ?? []) this.#thread.dropMember(zone, sandboxId);
    this.#memberships.delete(sandboxId);
  }

  #isNetwork(key: string, networkId: string): boolean {
    return key === networkId || this.#o.locals.find(key)?.id === networkId;
  }
}

function isNamed({ spec }: SandboxRecord, name: string): boolean {
  return spec.id === name || spec.names.includes(name.replace(/^\//, ''));
}

/**
 * Port 53 stays free for servers of the container's own: the resolver has another, and ports are rewritten on the way,
 * without connection tracking.
 */
export function resolverRules(port: number): string {
  const rules = ['udp', 'tcp'].flatMap((protocol) => [
    `ip daddr ${RESOLVER_ADDRESS} ${protocol} dport 53 notrack ${protocol} dport set ${port}`,
    `ip saddr ${RESOLVER_ADDRESS} ${protocol} sport ${port} notrack ${protocol} sport set 53`,
  ]);
  const chain = 'add chain ip shoal-dns out { type filter hook output priority -300; }';
  const lines = ['add table ip shoal-dns', chain, 'flush chain ip shoal-dns out'];
  return [...lines, ...rules.map((rule) => `add rule ip shoal-dns out ${rule}`)].join('\n');
}
