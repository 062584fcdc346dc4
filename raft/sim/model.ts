import type { RaftConfChange } from '../../proto/index.ts';
import type { AppliedEntry, StateMachine } from '../options.ts';

/** A command of the model: a write of a register, perhaps only when it holds `expected`. */
export interface Command {
  kind: 'put' | 'cas';
  key: number;
  /** Unique over all writes: names the operation too. */
  value: number;
  expected: number;
}

const COMMAND_BYTES = 20;

/** @param fillerBytes bytes without meaning that follow. None of them is zero, as in text. */
export function encodeCommand(command: Command, fillerBytes: number): Uint8Array {
  const out = Buffer.alloc(COMMAND_BYTES + fillerBytes, (command.value % 255) + 1);
  out[0] = command.kind === 'put' ? 1 : 2;
  out[1] = command.key;
  out.writeUInt16LE(0x5348, 2);
  out.writeDoubleLE(command.value, 4);
  out.writeDoubleLE(command.expected, 12);
  return out;
}

export function decodeCommand(data: Uint8Array): Command {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  return {
    kind: bytes[0] === 1 ? 'put' : 'cas',
    key: bytes[1] as number,
    value: bytes.readDoubleLE(4),
    expected: bytes.readDoubleLE(12),
  };
}

/** What a machine tells the checkers. */
export interface MachineReports {
  applied(index: number, term: number, value: number, hash: number): void;
  restored(index: number, hash: number): void;
}

/** A replicated state that the simulation can question: registers with a number each. */
export interface SimMachine extends StateMachine {
  /** Every write is a compare-and-set against the state in which it was encoded. */
  readonly conditional: boolean;
  /** Value of a register now; 0 for none. */
  get(key: number): number;
  /** What a compare-and-set that was applied at `index` found; undefined when that is too long ago. */
  foundAt(index: number): number | undefined;
  /** The entry of a command. @param fillerBytes bytes that it has besides. */
  encode(command: Command, fillerBytes: number): Uint8Array;
}

export type MachineFactory = (reports: MachineReports) => SimMachine;

/** Results of compare-and-sets that are kept. */
const RESULTS_MAX = 4096;

function mix(hash: number, value: number): number {
  let h = Math.imul(hash ^ (value | 0), 0x01000193);
  h = Math.imul(h ^ Math.floor(value / 2 ** 32) ^ (h >>> 15), 0x85ebca6b);
  return (h ^ (h >>> 13)) >>> 0;
}

interface Stored {
  history: number;
  registers: [key: number, value: number][];
  filler: string;
}

/**
 * Registers, and a hash at every index: of everything applied, in order, and of the state itself, so that two members
 * that come to one state by two ways, or by one way to two states, are found out at once.
 */
export class ModelMachine implements SimMachine {
  readonly conditional = false;
  readonly #reports: MachineReports;
  readonly #fillerBytes: number;
  readonly #registers = new Map<number, number>();
  #found = new Map<number, number>();
  #history = 0;
  /** Sum of the hashes of all registers. */
  #state = 0;

  /** @param fillerBytes size that is added to every snapshot. */
  constructor(reports: MachineReports, fillerBytes: number) {
    this.#reports = reports;
    this.#fillerBytes = fillerBytes;
  }

  encode(command: Command, fillerBytes: number): Uint8Array {
    return encodeCommand(command, fillerBytes);
  }

  get(key: number): number {
    return this.#registers.get(key) ?? 0;
  }

  foundAt(index: number): number | undefined {
    return this.#found.get(index);
  }

  apply(entries: readonly AppliedEntry[]): void {
    for (const { index, term, data } of entries) {
      const command = decodeCommand(data);
      if (command.kind === 'put') this.#set(command.key, command.value);
      else this.#compareAndSet(command, index);
      this.#history = mix(mix(this.#history, index), command.value);
      this.#reports.applied(index, term, command.value, this.#hash());
    }
  }

  #compareAndSet(command: Command, index: number): void {
    const found = this.get(command.key);
    if (found === command.expected) this.#set(command.key, command.value);
    this.#found.set(index, found);
    if (this.#found.size > RESULTS_MAX) this.#found = new Map([...this.#found].slice(RESULTS_MAX / 2));
  }

  #set(key: number, value: number): void {
    const old = this.#registers.get(key);
    if (old !== undefined) this.#state = (this.#state - mix(key + 1, old)) >>> 0;
    this.#state = (this.#state + mix(key + 1, value)) >>> 0;
    this.#registers.set(key, value);
  }

  #hash(): number {
    return mix(this.#history, this.#state);
  }

  // oxlint-disable-next-line no-empty-function -- the membership is watched at the core
  applyConfChange(_change: RaftConfChange, _index: number): void {}

  snapshot(): Uint8Array {
    const stored: Stored = {
      history: this.#history,
      registers: [...this.#registers],
      filler: 'snapshot '.repeat(Math.ceil(this.#fillerBytes / 9)),
    };
    return Buffer.from(JSON.stringify(stored));
  }

  restore(data: Uint8Array, index: number): void {
    const stored = JSON.parse(Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString()) as Stored;
    this.#registers.clear();
    this.#found.clear();
    this.#state = 0;
    this.#history = stored.history;
    for (const [key, value] of stored.registers) this.#set(key, value);
    this.#reports.restored(index, this.#hash());
  }
}
