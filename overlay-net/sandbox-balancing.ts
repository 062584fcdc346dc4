import { setImmediate as yieldLoop } from 'node:timers/promises';
import { errorMessage, type Logger } from '../base/index.ts';
import { balancingBatches } from './balancing-batch.ts';
import { BalancingIndex, type VipChange } from './balancing-index.ts';
import { hash32 } from './ingress-wiring.ts';
import { familyOf, type Family } from './ip.ts';
import type { Kernel } from './kernel/index.ts';
import { KeyedLocks } from './keyed-locks.ts';
import type { Overlay } from './overlays.ts';
import { paced } from './paced.ts';
import { balancingDiff, balancingTable, type Balancing } from './plan-balancing.ts';
import type { SandboxRecord } from './store.ts';

export interface SandboxBalancingOptions {
  kernel: Kernel;
  overlays: { get: (networkId: string) => Pick<Overlay, 'table'> | undefined };
  sandboxes: ReadonlyMap<string, SandboxRecord>;
  log: Logger;
}

/** What a sandbox's tables hold: for each of its networks, as of which change of that network's balancing. */
interface Applied {
  families: readonly Family[];
  networks: ReadonlyMap<string, { index: BalancingIndex; sequence: number }>;
}

/** Sandboxes updated before other work of the loop gets a turn. */
const SANDBOXES_PER_TURN = 8;

/**
 * The balancing of all sandboxes. What differs from one table of a network to the next is found once, and each sandbox
 * on it is told just that.
 */
export class SandboxBalancing {
  readonly #o: SandboxBalancingOptions;
  readonly #indexes = new Map<string, BalancingIndex>();
  /** A network's balancing follows one table after the other. */
  readonly #turns = new KeyedLocks();
  /** Absent: what the sandbox holds is not known, so it is replaced whole. */
  readonly #applied = new Map<string, Applied>();
  /** Sandboxes whose first rules are under way. */
  readonly #first = new Set<string>();

  constructor(options: SandboxBalancingOptions) {
    this.#o = options;
  }

  /** Brings every sandbox up to date, a few at a time. False when one failed: it is tried again next time. */
  async apply(drained: ReadonlySet<string>): Promise<boolean> {
    const { sandboxes, overlays, log } = this.#o;
    for (const id of this.#indexes.keys()) if (overlays.get(id) === undefined) this.#indexes.delete(id);
    const updated = new Set<string>();
    let done = true;
    let count = 0;
    for (const record of [...sandboxes.values()]) {
      if (this.#first.has(record.spec.id)) continue;
      try {
        await this.#applyOne(record, drained, updated, false);
      } catch (error) {
        this.forget(record.spec.id);
        done = false;
        log.warn('cannot set the balancing of a container', { id: record.spec.id, error: errorMessage(error) });
      }
      if (++count % SANDBOXES_PER_TURN === 0) await yieldLoop();
    }
    return done;
  }

  /** The first rules of a sandbox just made. @throws ShoalError */
  async applyFirst(record: SandboxRecord, drained: ReadonlySet<string>): Promise<void> {
    this.#first.add(record.spec.id);
    try {
      await this.#applyOne(record, drained, new Set(), true);
    } finally {
      this.#first.delete(record.spec.id);
    }
  }

  forget(sandboxId: string): void {
    this.#applied.delete(sandboxId);
  }

  /** The tables that a sandbox shall hold by now, as text; undefined when it has none. */
  text(sandboxId: string): string | undefined {
    const applied = this.#applied.get(sandboxId);
    if (applied === undefined) return undefined;
    const wanted = new Map<string, readonly string[]>();
    for (const { index, sequence } of applied.networks.values()) {
      const balancing = index.at(sequence);
      if (balancing === undefined) return undefined;
      for (const [vip, places] of balancing) wanted.set(vip, places);
    }
    return balancingTable(ofFamilies(wanted, applied.families), hash32(sandboxId), false, applied.families);
  }

  async #applyOne(
    record: SandboxRecord,
    drained: ReadonlySet<string>,
    updated: Set<string>,
    fresh: boolean,
  ): Promise<void> {
    const { id } = record.spec;
    const families = balancedFamilies(record);
    const networks = await this.#networksOf(record, drained, updated);
    if (!this.#o.sandboxes.has(id)) return;
    const before = this.#applied.get(id);
    if (before === undefined && families.length === 0) return;
    const changes = before === undefined ? undefined : changesOf(before, families, networks);
    const now: Applied['networks'] = new Map(
      [...networks].map(([key, index]) => [key, { index, sequence: index.sequence }]),
    );
    if (changes !== undefined) await this.#change(record, changes);
    else await this.#replace(record, wholeOf(networks.values(), families), families, fresh);
    // A sandbox removed meanwhile must not leave an entry behind.
    if (this.#o.sandboxes.has(id)) this.#applied.set(id, { families, networks: now });
  }

  /** Balancing of the overlays that a sandbox is on, up to date. */
  async #networksOf(
    record: SandboxRecord,
    drained: ReadonlySet<string>,
    updated: Set<string>,
  ): Promise<Map<string, BalancingIndex>> {
    const networks = new Map<string, BalancingIndex>();
    for (const { kind, networkId } of record.legs) {
      const overlay = kind === 'overlay' ? this.#o.overlays.get(networkId) : undefined;
      if (overlay === undefined) continue;
      const index = this.#indexes.get(networkId) ?? new BalancingIndex();
      this.#indexes.set(networkId, index);
      if (!updated.has(networkId)) {
        await this.#turns.run(networkId, () => paced(index.steps(overlay.table, drained)));
      }
      updated.add(networkId);
      networks.set(networkId, index);
    }
    return networks;
  }

  async #change(record: SandboxRecord, changes: ReadonlyMap<string, VipChange>): Promise<void> {
    if (changes.size === 0) return;
    const { kernel } = this.#o;
    const { namespacePath } = record.result;
    const seed = hash32(record.spec.id);
    if (kernel.nftBatch !== undefined) {
      for (const { messages, deletes } of balancingBatches(changes, seed)) {
        await kernel.nftBatch(namespacePath, messages, deletes);
      }
      return;
    }
    const side = (which: keyof VipChange): Balancing => {
      return new Map(
        [...changes].flatMap(([vip, { [which]: places }]) => (places === undefined ? [] : [[vip, places]])),
      );
    };
    const text = balancingDiff(side('before'), side('after'), seed);
    if (text !== '') await kernel.nft(namespacePath, text);
  }

  /**
   * Replaces a sandbox's tables in one transaction. A fresh one, in which nothing runs yet, gets an empty frame that is
   * filled in a fraction of the time that nft takes to read as many words.
   */
  async #replace(record: SandboxRecord, wanted: Balancing, families: readonly Family[], fresh: boolean): Promise<void> {
    const { kernel } = this.#o;
    const frame = fresh && kernel.nftBatch !== undefined;
    const text = balancingTable(frame ? new Map() : wanted, hash32(record.spec.id), fresh, families);
    if (text !== '') await kernel.nft(record.result.namespacePath, text, fresh);
    if (!frame) return;
    await this.#change(record, new Map([...wanted].map(([vip, after]) => [vip, { before: undefined, after }])));
  }
}

function ofFamilies(balancing: Balancing, families: readonly Family[]): Balancing {
  return new Map([...balancing].filter(([vip]) => families.includes(familyOf(vip))));
}

function wholeOf(networks: Iterable<BalancingIndex>, families: readonly Family[]): Balancing {
  const wanted = new Map<string, readonly string[]>();
  for (const { current } of networks) for (const [vip, places] of current) wanted.set(vip, places);
  return ofFamilies(wanted, families);
}

/** What changed for a sandbox; undefined when it must be replaced whole. */
function changesOf(
  before: Applied,
  families: readonly Family[],
  networks: ReadonlyMap<string, BalancingIndex>,
): Map<string, VipChange> | undefined {
  if (before.families.length !== families.length || before.networks.size !== networks.size) return undefined;
  const changes = new Map<string, VipChange>();
  for (const [id, index] of networks) {
    const held = before.networks.get(id);
    const since = held?.index === index ? index.since(held.sequence) : undefined;
    if (since === undefined) return undefined;
    for (const [vip, change] of since) {
      // Networks that overlap are put together as a whole.
      const elsewhere = [...networks.values()].some((other) => other !== index && other.current.has(vip));
      if (elsewhere || changes.has(vip)) return undefined;
      if (change.before !== change.after && families.includes(familyOf(vip))) changes.set(vip, change);
    }
  }
  return changes;
}

/** Families in which a sandbox may reach virtual addresses. */
export function balancedFamilies(record: SandboxRecord): readonly Family[] {
  const overlays = record.legs.filter((leg) => leg.kind === 'overlay');
  if (overlays.length === 0) return [];
  return overlays.some((leg) => leg.address6 !== undefined) ? [4, 6] : [4];
}
