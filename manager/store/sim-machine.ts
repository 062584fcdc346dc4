import { silentLogger, systemClock, unavailable } from '../../base/index.ts';
import { Config, InternalRaftRequest, StoreActionKind } from '../../proto/index.ts';
import { versionOf } from './apply.ts';
import { encodeAction, encodeRequest } from './codec.ts';
import { createStore, NO_LEADER_MESSAGE, type ReplicatedStore } from './store.ts';

/**
 * The store as the replicated state of raft's simulation (raft/sim), which loads this file by its path: a register is a
 * config, a write is an action that names the version its proposer saw, as everything that managers write.
 */
interface Command {
  key: number;
  /** Unique over all writes. */
  value: number;
  expected: number;
}

interface Reports {
  applied(index: number, term: number, value: number, hash: number): void;
  restored(index: number, hash: number): void;
}

/** Results of writes that are kept. */
const RESULTS_MAX = 4096;

function idOf(key: number): string {
  return `register-${key}`;
}

/** One replica. */
export class StoreMachine {
  /** Every write names what it expects. */
  readonly conditional = true;
  readonly #reports: Reports;
  readonly #store: ReplicatedStore;
  #found = new Map<number, number>();
  #history = 0;

  constructor(reports: Reports) {
    this.#reports = reports;
    this.#store = createStore({
      proposer: { isLeader: () => false, propose: () => Promise.reject(unavailable(NO_LEADER_MESSAGE)) },
      clock: systemClock,
      log: silentLogger,
    });
  }

  get(key: number): number {
    return Number(this.#store.view().get('config', idOf(key))?.spec?.annotations?.labels['value'] ?? 0);
  }

  foundAt(index: number): number | undefined {
    return this.#found.get(index);
  }

  /** An entry that stores the value; it fits only while the register holds what it holds here now. */
  encode({ key, value }: Command, fillerBytes: number): Uint8Array {
    const id = idOf(key);
    const stored = this.#store.view().get('config', id);
    const kind = stored === undefined ? StoreActionKind.STORE_ACTION_CREATE : StoreActionKind.STORE_ACTION_UPDATE;
    const annotations = { name: id, labels: { value: String(value), key: String(key) } };
    const data = new Uint8Array(fillerBytes).fill((value % 255) + 1);
    const config = Config.create({ id, spec: { annotations, data } });
    return encodeRequest(value, [encodeAction('config', kind, config, versionOf(stored))]);
  }

  apply(entries: readonly { index: number; term: number; data: Uint8Array }[]): void {
    for (const entry of entries) {
      const request = InternalRaftRequest.decode(entry.data);
      const key = Number(request.action[0]?.config?.spec?.annotations?.labels['key'] ?? 0);
      this.#found.set(entry.index, this.get(key));
      if (this.#found.size > RESULTS_MAX) this.#found = new Map([...this.#found].slice(RESULTS_MAX / 2));
      this.#store.apply([entry]);
      this.#history = entry.index;
      this.#reports.applied(entry.index, entry.term, request.id, this.#hash());
    }
  }

  /** Over all that is stored: 32 bits of every object's id, version and value. */
  #hash(): number {
    let hash = Math.imul(this.#history, 0x9e3779b1);
    let sum = 0;
    for (const config of this.#store.view().list('config')) {
      let h = 0x811c9dc5;
      const text = `${config.id} ${versionOf(config)} ${config.spec?.annotations?.labels['value']} ${config.spec?.data.length}`;
      for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193);
      sum = (sum + h) | 0;
    }
    hash ^= sum;
    return hash >>> 0;
  }

  applyConfChange(): void {
    // The membership is the manager's, beside the store.
  }

  snapshot(): Uint8Array {
    const body = this.#store.snapshot();
    const out = Buffer.alloc(8 + body.length);
    out.writeDoubleLE(this.#history, 0);
    out.set(body, 8);
    return out;
  }

  restore(data: Uint8Array, index: number): void {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    this.#history = bytes.readDoubleLE(0);
    this.#found.clear();
    this.#store.restore(bytes.subarray(8), index);
    this.#reports.restored(index, this.#hash());
  }
}

/** What the simulation asks for. */
export const machine = (reports: Reports): StoreMachine => new StoreMachine(reports);
