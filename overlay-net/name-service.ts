import type { Logger, Random } from '../base/index.ts';
import type { Forwarder } from './dns/forward.ts';
import { startResolver, type Resolver } from './dns/server.ts';
import { addName, emptyZone, type Zone } from './dns/zone.ts';
import type { LocalNetworks } from './local-networks.ts';
import type { Overlays } from './overlays.ts';
import type { SandboxRecord } from './store.ts';

export interface NameServiceOptions {
  locals: LocalNetworks;
  overlays: Overlays;
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  forwarder: Forwarder;
  random: Random;
  log: Logger;
}

/** The resolvers of all sandboxes, and which names each may see. */
export class NameService {
  readonly #o: NameServiceOptions;
  readonly #resolvers = new Map<string, Resolver>();

  constructor(options: NameServiceOptions) {
    this.#o = options;
  }

  /** Opens a sandbox's resolver (anew). @throws SystemCallError */
  open(record: SandboxRecord): void {
    const { id } = record.spec;
    this.close(id);
    const { forwarder, random, log } = this.#o;
    const resolver = startResolver({
      namespace: record.result.namespacePath,
      zones: () => this.#zonesOf(record),
      upstream: () => (record.defaultAddress === '' ? undefined : record.spec.dns),
      forwarder,
      random,
      log,
    });
    this.#resolvers.set(id, resolver);
  }

  close(sandboxId: string): void {
    this.#resolvers.get(sandboxId)?.close();
    this.#resolvers.delete(sandboxId);
  }

  closeAll(): void {
    for (const id of [...this.#resolvers.keys()]) this.close(id);
  }

  /** Overlay networks before local ones; the ingress network names nothing. */
  #zonesOf(record: SandboxRecord): Zone[] {
    const overlays: Zone[] = [];
    const locals: Zone[] = [];
    for (const leg of record.legs) {
      if (leg.kind === 'gateway' || leg.kind === 'ingress') continue;
      const overlay = this.#o.overlays.get(leg.networkId);
      if (overlay !== undefined) overlays.push(overlay.zone);
      const name = overlay?.facts.name ?? this.#o.locals.find(leg.networkId)?.name;
      // Docker names nothing on the default bridge.
      if (name !== undefined && name !== 'bridge') locals.push(this.#containerZone(leg.networkId, name));
    }
    return [...overlays, ...locals];
  }

  /** Names of this host's containers on a network. */
  #containerZone(networkId: string, name: string): Zone {
    const zone = emptyZone(name);
    for (const { spec, legs } of this.#o.sandboxes.values()) {
      const leg = legs.find((candidate) => candidate.networkId === networkId);
      if (leg === undefined) continue;
      const endpoint = spec.endpoints.find((candidate) => this.#isNetwork(candidate.networkId, networkId));
      const names = [...spec.names, ...(endpoint?.aliases ?? []), spec.id.slice(0, 12)];
      for (const address of [leg.address, leg.address6 ?? '']) {
        if (address === '') continue;
        for (const known of names) addName(zone, known, address);
        zone.names.set(address, `${names[0] ?? spec.id}.${zone.network}`);
      }
    }
    return zone;
  }

  #isNetwork(key: string, networkId: string): boolean {
    return key === networkId || this.#o.locals.find(key)?.id === networkId;
  }
}
