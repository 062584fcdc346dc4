import { must } from '../../base/index.ts';
import { RaftConfChangeType, RaftMember, type RaftConfChange } from '../../proto/index.ts';
import type { AppliedEntry, StateMachine } from '../../raft/index.ts';
import { decodeRequest, type StoredValue } from './kv-messages.ts';

/** Told when a member of the group has, or no longer has, an address. */
export type OnMember = (id: number, address: string | undefined) => void;

/** Of each key in a snapshot, before key and value: two lengths and three numbers. */
const FACTS_BYTES = 2 + 4 + 3 * 8;

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

  /** A line of JSON, then each key: lengths of key and value, revisions, version, key, value. */
  snapshot(): Uint8Array {
    const head = { revision: this.revision, members: [...this.#members], keys: this.#values.size };
    const line = Buffer.from(`${JSON.stringify(head)}\n`, 'latin1');
    let bytes = line.length;
    for (const [key, { value }] of this.#values) bytes += FACTS_BYTES + key.length + value.length;
    const out = Buffer.allocUnsafe(bytes);
    let at = line.copy(out);
    for (const [key, { value, createRevision, modRevision, version }] of this.#values) {
      at = out.writeUInt16LE(key.length, at);
      at = out.writeUInt32LE(value.length, at);
      at = out.writeDoubleLE(createRevision, at);
      at = out.writeDoubleLE(modRevision, at);
      at = out.writeDoubleLE(version, at);
      at += out.write(key, at, 'latin1');
      out.set(value, at);
      at += value.length;
    }
    return out;
  }

  restore(data: Uint8Array): void {
    const input = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    const end = input.indexOf(10);
    const text = input.toString('latin1', 0, end);
    const head = JSON.parse(text) as { revision: number; members: [number, string][]; keys: number };
    let at = end + 1;
    this.#values = new Map();
    for (let i = 0; i < head.keys; i++) {
      const keyEnd = at + FACTS_BYTES + input.readUInt16LE(at);
      const valueEnd = keyEnd + input.readUInt32LE(at + 2);
      this.#values.set(input.toString('latin1', at + FACTS_BYTES, keyEnd), {
        value: input.subarray(keyEnd, valueEnd),
        createRevision: input.readDoubleLE(at + 6),
        modRevision: input.readDoubleLE(at + 14),
        version: input.readDoubleLE(at + 22),
      });
      at = valueEnd;
    }
    this.revision = head.revision;
    this.#members = new Map(head.members);
    for (const [id, address] of this.#members) this.#onMember(id, address);
  }
}
