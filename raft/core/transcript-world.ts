import { must, SeededRandom } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeV2, RaftEntryType, RaftMessageType } from '../../proto/index.ts';
import type { RaftEntry, RaftHardState, RaftMessage, RaftSnapshot } from '../../proto/index.ts';
import type { LogRepair, LogWrite } from '../storage.ts';
import { Raft, type RaftOptions, type Ready } from './index.ts';
import { entriesWords, membershipWords, messageWords, writeWords } from './transcript-words.ts';

/** Test help: a disk as transcripts have it. */
interface Disk {
  hardState: RaftHardState | null;
  snapshot: RaftSnapshot | null;
  entries: RaftEntry[];
  repair: LogRepair | null;
}

export interface Member {
  core: Raft;
  readonly disk: Disk;
  readonly options: RaftOptions;
  slow: boolean;
  write: LogWrite | null;
}

/** The members of a transcript: all that they do becomes a line. */
export class TranscriptWorld {
  readonly members = new Map<number, Member>();
  network: RaftMessage[] = [];
  readonly #cut = new Set<number>();
  readonly say: (line: string) => void;

  constructor(say: (line: string) => void) {
    this.say = say;
  }

  get(id: number): Member {
    return must(this.members.get(id), `member ${id}`);
  }

  start(options: RaftOptions, disk: Disk): void {
    const core = newCore(options, disk);
    this.members.set(options.id, { core, disk, options, slow: false, write: null });
  }

  /** The power goes and comes back: what was not written is gone. */
  restart(id: number): void {
    const member = this.get(id);
    member.write = null;
    member.core = newCore(member.options, member.disk);
  }

  cut(id: number): void {
    this.#cut.add(id);
    this.network = this.network.filter((message) => message.to !== id && message.from !== id);
  }

  heal(): void {
    this.#cut.clear();
  }

  /** Everybody does what its core asks for. @returns whether anybody did anything. */
  work(): boolean {
    let busy = false;
    for (const [id, member] of this.members) {
      for (let i = 0; i < 100 && member.core.hasReady(); i++) {
        busy = true;
        this.#process(id, member, member.core.ready());
      }
    }
    return busy;
  }

  #process(id: number, member: Member, ready: Ready): void {
    const { core } = member;
    if (ready.softState !== null) {
      const { role, leaderId } = ready.softState;
      const follows = role === 'follower' && leaderId !== 0 ? ` of ${leaderId}` : '';
      this.say(`${id} is ${role}${follows}, term ${core.term}`);
    }
    for (const message of ready.messages) this.#send(message);
    if (ready.write !== null) {
      this.say(`${id} ${member.slow ? 'begins to write' : 'writes'} ${writeWords(ready.write)}`);
      member.write = ready.write;
      if (!member.slow) this.finishWrite(id);
    }
    if (ready.restore !== null) this.say(`${id} restores snapshot ${ready.restore.metadata?.index}`);
    this.#apply(id, member, ready.committed);
    for (const { index, context } of ready.readStates) {
      this.say(`${id} may read ${new TextDecoder().decode(context)} at ${index}`);
    }
  }

  #apply(id: number, member: Member, committed: readonly RaftEntry[]): void {
    if (committed.length > 0) this.say(`${id} applies ${entriesWords(committed)}`);
    for (const entry of committed) {
      member.core.appliedTo(entry.index);
      if (entry.type === RaftEntryType.EntryNormal) continue;
      if (entry.type === RaftEntryType.EntryConfChange) member.core.applyConfChange(RaftConfChange.decode(entry.data));
      else member.core.applyConfChangeV2(RaftConfChangeV2.decode(entry.data));
      this.say(`${id} now has ${membershipWords(member.core.membership)}`);
    }
  }

  #send(message: RaftMessage): void {
    const lost = this.#cut.has(message.from) || this.#cut.has(message.to);
    this.say(`${messageWords(message)}${lost ? ' (lost)' : ''}`);
    if (lost) return;
    const data = this.get(message.from).disk.snapshot;
    this.network.push(message.type === RaftMessageType.MsgSnap ? { ...message, snapshot: data } : message);
  }

  finishWrite(id: number): void {
    const member = this.get(id);
    const { disk } = member;
    const write = must(member.write, `write of member ${id}`);
    member.write = null;
    if (write.snapshot !== null) {
      disk.snapshot = write.snapshot;
      disk.entries = [];
    }
    const first = write.entries[0]?.index;
    if (first !== undefined) disk.entries = disk.entries.filter((entry) => entry.index < first).concat(write.entries);
    disk.hardState = write.hardState;
    if (write.repaired) disk.repair = null;
    member.core.written(write);
  }

  /** Delivers what is on its way now, to one member or to all. */
  deliver(to: number | null): void {
    const due = this.network.filter((message) => to === null || message.to === to);
    this.network = this.network.filter((message) => !due.includes(message));
    for (const message of due) this.members.get(message.to)?.core.step(message);
  }

  drop(to: number | null, type: RaftMessageType | null): void {
    const dropped = (message: RaftMessage): boolean =>
      (to === null || message.to === to) && (type === null || message.type === type);
    for (const message of this.network) if (dropped(message)) this.say(`lost: ${messageWords(message)}`);
    this.network = this.network.filter((message) => !dropped(message));
  }

  snapshot(id: number, keep: number): void {
    const { core, disk } = this.get(id);
    const metadata = core.snapshotMetadata();
    disk.snapshot = { data: new Uint8Array(0), metadata };
    disk.entries = disk.entries.filter((entry) => entry.index > metadata.index);
    core.snapshotTaken(metadata, Math.max(core.firstIndex - 1, metadata.index - keep));
    this.say(`${id} has a snapshot ${metadata.index}/${metadata.term}, its log begins at ${core.firstIndex}`);
  }
}

function newCore(options: RaftOptions, { hardState, snapshot, entries, repair }: Disk): Raft {
  const random = new SeededRandom(options.id);
  return new Raft(
    { ...options, random },
    { hardState, snapshot: snapshot?.metadata ?? null, entries: [...entries], repair },
  );
}
