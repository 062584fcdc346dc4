import { must } from '../../base/index.ts';
import { RaftConfChangeType, RaftMember, type RaftConfChange } from '../../proto/index.ts';
import type { AppliedEntry, StateMachine } from '../../raft/index.ts';
import { decodeRequest, type StoredValue } from './kv-messages.ts';

/** Told when a member of the group has, or no longer has, an address. */
export type OnMember = (id: number, address: string | undefined) => void;

/** What the benchmark replicates: keys with values and revisions as etcd shows them, without etcd's history. */
export class KvMachine implements StateMachine {
  readonly #onMember: OnMember;
  /** False counts entries only: what raft itself needs is to be measured. */
  readonly #keep: boolean;
  #values = new Map<string, StoredValue>();
  #members = new Map<number, string>();
  revision = 1;

  constructor(onMember: OnMember, keep: boolean) {
    this.#onMember = onMember;
    this.#keep = keep;
  }

  get(key: Buffer): StoredValue | undefined {
    return this.#values.get(key.toString('latin1'));
  }

  /** An entry is the PutRequest as the client sent it. */
  apply(entries: readonly AppliedEntry[]): void {
    for (const { data } of entries) {
      this.revision++;
      if (!this.#keep) continue;
      const { key, value } = decodeRequest(Buffer.from(data.buffer, data.byteOffset, data.byteLength));
      this.#put(key.toString('latin1'), must(value, 'value of a put'));
    }
  }

  #put(key: string, value: Buffer): void {
    const stored = this.#values.get(key);
    if (stored === undefined) {
      const { revision } = this;
      this.#values.set(key, { value, createRevision: revision, modRevision: revision, version: 1 });
    } else {
      stored.value = value;
      stored.modRevision = this.revision;
      stored.version++;
    }
  }

  applyConfChange(change: RaftConfChange): void {
    if (change.type === RaftConfChangeType.ConfChangeRemoveNode) {
      this.#members.delete(change.node_id);
      this.#onMember(change.node_id, undefined);
      return;
    }
    const { addr } = RaftMember.decode(change.context);
    this.#members.set(change.node_id, addr);
    this.#onMember(change.node_id, addr);
  }

  /** A line of JSON, then for each key a line of its facts, then all values. */
  snapshot(): Uint8Array {
    const facts = [...this.#values].map(([key, { value, createRevision, modRevision, version }]) => {
      return `${key} ${value.length} ${createRevision} ${modRevision} ${version}\n`;
    });
    const head = { revision: this.revision, members: [...this.#members], keys: facts.length };
    const text = Buffer.from(`${JSON.stringify(head)}\n${facts.join('')}`, 'latin1');
    return Buffer.concat([text, ...[...this.#values.values()].map((stored) => stored.value)]);
  }

  restore(data: Uint8Array): void {
    const input = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    let at = 0;
    const line = (): string => {
      const end = input.indexOf(10, at);
      const text = input.toString('latin1', at, end);
      at = end + 1;
      return text;
    };
    const head = JSON.parse(line()) as { revision: number; members: [number, string][]; keys: number };
    const facts = Array.from({ length: head.keys }, () => line().split(' '));
    this.#values = new Map();
    for (const [key = '', ...rest] of facts) {
      const [length = 0, createRevision = 0, modRevision = 0, version = 0] = rest.map(Number);
      this.#values.set(key, { value: input.subarray(at, at + length), createRevision, modRevision, version });
      at += length;
    }
    this.revision = head.revision;
    this.#members = new Map(head.members);
    for (const [id, address] of this.#members) this.#onMember(id, address);
  }
}
