import { NameView } from './answer.ts';
import type { ToThread } from './thread-protocol.ts';
import { LiveZone } from './live-zone.ts';
import { emptyZone, memberZone, type Member, type Zone } from './zone.ts';

interface Entry {
  /** Undefined while it must be made from its members again. */
  zone: Zone | undefined;
  members: Map<string, Member>;
  /** The next zone, until its last piece has come. */
  next: LiveZone | undefined;
  /** What changes of an overlay's zone are told to; its zone is `zone`. */
  live: LiveZone | undefined;
  generation: number;
}

type Change = Extract<ToThread, { kind: 'zone' | 'zone-change' | 'zone-gone' | 'member' | 'member-gone' }>;

/** All names that this host's resolvers know, and who sees which of them. No I/O. */
export class NameTables {
  readonly #zones = new Map<string, Entry>();
  readonly #views = new Map<string, NameView>();

  apply(change: Change): void {
    switch (change.kind) {
      case 'zone':
        return this.#addPiece(change);
      case 'zone-change':
        this.#zones.get(change.id)?.live?.read(change.text);
        return this.#changed(change.id);
      case 'zone-gone':
        this.#zones.delete(change.id);
        return this.#changed(change.id);
      case 'member': {
        const entry = this.#entry(change.id);
        entry.members.set(change.key, change.member);
        entry.zone = undefined;
        return this.#changed(change.id);
      }
      case 'member-gone': {
        const entry = this.#zones.get(change.id);
        if (entry === undefined || !entry.members.delete(change.key)) return undefined;
        if (entry.members.size === 0) this.#zones.delete(change.id);
        entry.zone = undefined;
        return this.#changed(change.id);
      }
    }
  }

  /** The view of all sandboxes that see just these zones in this order. */
  view(zoneIds: readonly string[]): NameView {
    const key = zoneIds.join(' ');
    let view = this.#views.get(key);
    if (view === undefined) {
      view = new NameView(zoneIds, () => zoneIds.flatMap((id) => this.#zone(id) ?? []));
      this.#views.set(key, view);
    }
    return view;
  }

  /** Forgets views that nobody uses any more. */
  keepViews(used: ReadonlySet<NameView>): void {
    for (const [key, view] of this.#views) if (!used.has(view)) this.#views.delete(key);
  }

  #entry(id: string): Entry {
    let entry = this.#zones.get(id);
    if (entry === undefined) {
      entry = { zone: undefined, members: new Map(), next: undefined, live: undefined, generation: 0 };
      this.#zones.set(id, entry);
    }
    return entry;
  }

  #zone(id: string): Zone | undefined {
    const entry = this.#zones.get(id);
    if (entry === undefined) return undefined;
    const first = entry.members.values().next().value;
    entry.zone ??= first === undefined ? emptyZone('') : memberZone(first.network, entry.members.values());
    return entry.zone;
  }

  #addPiece(change: Extract<Change, { kind: 'zone' }>): void {
    const entry = this.#entry(change.id);
    // An earlier version may have been overtaken half-way.
    if (entry.next === undefined || entry.generation !== change.generation) entry.next = new LiveZone(change.network);
    entry.generation = change.generation;
    // Read as it comes, so that queries are answered in between.
    entry.next.read(change.text);
    if (!change.last) return;
    entry.live = entry.next;
    entry.zone = entry.live.zone;
    entry.next = undefined;
    this.#changed(change.id);
  }

  #changed(id: string): void {
    for (const view of this.#views.values()) if (view.zoneIds.includes(id)) view.changed();
  }
}
