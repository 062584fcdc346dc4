/**
 * Changes of a sandbox's balancing as messages for the kernel: the same that `balancingDiff` says in nft's words, at a
 * fraction of its cost. The places of a virtual address are written once for all sandboxes; only the turn at which each
 * begins is a sandbox's own. Pure.
 */
import type { VipChange } from './balancing-index.ts';
import { familyOf, ipBytes, type Family } from './ip.ts';
import { MessageBuilder } from './kernel/netlink-message.ts';
import { nftMessage } from './kernel/nft-batch.ts';
import { chainOf, TURN_CHAIN } from './plan-balancing.ts';
import { INNER_TABLE } from './plan-nft.ts';

/** Messages of nf_tables, linux/netfilter/nf_tables.h. */
const MSG = { NEWCHAIN: 3, DELCHAIN: 5, NEWRULE: 6, DELRULE: 8, NEWSETELEM: 12, DELSETELEM: 14 } as const;
const NLM_F_CREATE = 0x400;
const NLM_F_APPEND = 0x800;
const NESTED = 0x8000;
/** nfgenmsg's family, which is also that of a NAT expression. */
const NFPROTO = { 4: 2, 6: 10 } as const;
const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;
const NFT_GOTO = -4;
const REGISTER = 1;
const META_MARK = 3;
const NAT_DESTINATION = 1;
/** Elements of one message: the length of a list has 16 bits. */
const ELEMENT_BYTES_MAX = 48 * 1024;
/** Places, and addresses, after which a batch is closed; each address changes in one batch. */
const BATCH_PLACES_MAX = 1024;

const data = (m: MessageBuilder, type: number, bytes: Uint8Array): MessageBuilder =>
  m.nested(type | NESTED, (one) => one.attribute(1, bytes));

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value | 0);
  return bytes;
}

/** Writes the elements of one set and the messages around them. */
class Elements {
  readonly #set: string;
  readonly #type: number;
  readonly #parts: Record<Family, Buffer[]> = { 4: [], 6: [] };

  constructor(type: number, set: string) {
    this.#type = type;
    this.#set = set;
  }

  /** One element or several of one size. */
  add(family: Family, bytes: Buffer): void {
    this.#parts[family].push(bytes);
  }

  write(m: MessageBuilder): void {
    for (const family of [4, 6] as const) {
      let list: Buffer[] = [];
      let length = 0;
      const flush = (): void => {
        if (length > 0) this.#message(m, family, list);
        list = [];
        length = 0;
      };
      for (const part of this.#parts[family]) {
        for (const piece of cut(part)) {
          if (length + piece.length > ELEMENT_BYTES_MAX) flush();
          list.push(piece);
          length += piece.length;
        }
      }
      flush();
    }
  }

  #message(m: MessageBuilder, family: Family, list: readonly Buffer[]): void {
    message(m, this.#type, this.#type === MSG.NEWSETELEM ? NLM_F_CREATE : 0, family, () => {
      m.attributeText(2, this.#set);
      m.nested(3 | NESTED, (one) => one.raw(Buffer.concat(list)));
    });
  }
}

/** Elements of one size each (it stands first), in pieces that fit a message. */
function cut(elements: Buffer): Buffer[] {
  if (elements.length <= ELEMENT_BYTES_MAX) return [elements];
  const size = elements.readUInt16LE(0);
  const step = ELEMENT_BYTES_MAX - (ELEMENT_BYTES_MAX % size);
  const pieces: Buffer[] = [];
  for (let at = 0; at < elements.length; at += step) pieces.push(elements.subarray(at, at + step));
  return pieces;
}

function element(key: Uint8Array, rest?: (m: MessageBuilder) => void): Buffer {
  const m = new MessageBuilder(ELEMENT_ROOM_BYTES);
  m.nested(1 | NESTED, (one) => {
    data(one, 1, key);
    rest?.(one);
  });
  return m.take();
}

const ELEMENT_ROOM_BYTES = 128;

/** Key of a place: the virtual address and the turn, in the kernel's order. */
function placeKey(address: Uint8Array, turn: number): Buffer {
  const key = Buffer.alloc(address.length + 4);
  key.set(address);
  key.writeUInt32LE(turn, address.length);
  return key;
}

/** Where the key's bytes begin: behind the headers of the element, its key and the key's value. */
const KEY_AT = 12;

const written = new WeakMap<readonly string[], Map<string, Buffer>>();

/** The elements of a virtual address's places, as if the first backend had the first turn. */
function placesOf(vip: string, backends: readonly string[]): Buffer {
  let ofList = written.get(backends);
  if (ofList === undefined) written.set(backends, (ofList = new Map()));
  let bytes = ofList.get(vip);
  if (bytes !== undefined) return bytes;
  const address = ipBytes(vip);
  // All elements are of one size: the first, made with care, is the pattern of the others.
  const first = element(placeKey(address, 0), (m) => data(m, 2, address));
  bytes = Buffer.alloc(first.length * backends.length, first);
  for (const [turn, backend] of backends.entries()) {
    const end = (turn + 1) * first.length;
    bytes.writeUInt32LE(turn, turn * first.length + KEY_AT + address.length);
    bytes.set(ipBytes(backend), end - address.length);
  }
  ofList.set(vip, bytes);
  return bytes;
}

/** The same with the turns of one sandbox, which begins where its seed says, as `rotate` does. */
function turned(vip: string, backends: readonly string[], seed: number): Buffer {
  const own = Buffer.from(placesOf(vip, backends));
  const size = own.readUInt16LE(0);
  const start = seed % backends.length;
  const keyAt = KEY_AT + ADDRESS_BYTES[familyOf(vip)];
  for (let i = 0; i < backends.length; i++) {
    own.writeUInt32LE((i - start + backends.length) % backends.length, i * size + keyAt);
  }
  return own;
}

/** Elements of some turns of one sandbox. */
function someOf(vip: string, backends: readonly string[], turns: readonly number[], seed: number): Buffer {
  const all = placesOf(vip, backends);
  const size = all.readUInt16LE(0);
  const keyAt = KEY_AT + ADDRESS_BYTES[familyOf(vip)];
  const some = Buffer.allocUnsafe(size * turns.length);
  for (const [i, turn] of turns.entries()) {
    const from = ((turn + seed) % backends.length) * size;
    some.set(all.subarray(from, from + size), i * size);
    some.writeUInt32LE(turn, i * size + keyAt);
  }
  return some;
}

/** The keys of some turns alone, to be taken away. */
function keysOf(vip: string, turns: readonly number[]): Buffer {
  const address = ipBytes(vip);
  const first = element(placeKey(address, 0));
  const keys = Buffer.alloc(first.length * turns.length, first);
  for (const [i, turn] of turns.entries()) keys.writeUInt32LE(turn, i * first.length + KEY_AT + address.length);
  return keys;
}

function expression(m: MessageBuilder, name: string, numbers: readonly [number, number][], rest?: () => void): void {
  m.nested(1 | NESTED, (one) => {
    one.attributeText(1, name);
    one.nested(2 | NESTED, (inside) => {
      for (const [type, value] of numbers) inside.attribute(type, be32(value));
      rest?.();
    });
  });
}

function message(m: MessageBuilder, type: number, flags: number, family: Family, build: () => void): void {
  nftMessage(m, type, flags, NFPROTO[family], (one) => {
    one.attributeText(1, INNER_TABLE);
    build();
  });
}

/** Chains are named by attribute 3 in messages of chains, by 2 in those of rules. */
function ofChain(m: MessageBuilder, type: number, flags: number, vip: string, more?: () => void): void {
  const named = type === MSG.NEWCHAIN || type === MSG.DELCHAIN ? 3 : 2;
  message(m, type, flags, familyOf(vip), () => {
    m.attributeText(named, chainOf(vip));
    more?.();
  });
}

function goTo(m: MessageBuilder, chain: string): void {
  m.nested(2 | NESTED, (value) =>
    value.nested(2 | NESTED, (verdict) => verdict.attribute(1, be32(NFT_GOTO)).attributeText(2, chain)),
  );
}

/** The element that leads a virtual address to its chain. */
function mapped(vip: string): Buffer {
  return element(ipBytes(vip), (m) => goTo(m, chainOf(vip)));
}

/** With one backend the rule names it; several are places, chosen in turn (see `turnsRule`). */
function rule(m: MessageBuilder, vip: string, backends: readonly string[]): void {
  const [only] = backends;
  ofChain(m, MSG.NEWRULE, NLM_F_CREATE | NLM_F_APPEND, vip, () => {
    m.nested(4 | NESTED, (list) => {
      if (backends.length === 1 && only !== undefined) {
        expression(list, 'immediate', [[1, REGISTER]], () => data(list, 2, ipBytes(only)));
        expression(list, 'nat', [[1, NAT_DESTINATION], [2, NFPROTO[familyOf(vip)]], [3, REGISTER]]); // prettier-ignore
        return;
      }
      expression(list, 'numgen', [[1, REGISTER], [2, backends.length], [3, 0], [4, 0]]); // prettier-ignore
      expression(list, 'meta', [[2, META_MARK], [3, REGISTER]]); // prettier-ignore
      expression(list, 'immediate', [[1, 0]], () => goTo(list, TURN_CHAIN));
    });
  });
}

export interface Batch {
  messages: Buffer[];
  /** It takes something away. */
  deletes: boolean;
}

/** Transactions that lead a sandbox's tables through the changes; each virtual address changes in one of them. */
export function* balancingBatches(changes: Iterable<[string, VipChange]>, seed: number): Generator<Batch> {
  let steps = new Steps(seed);
  let size = 0;
  for (const [vip, { before, after }] of changes) {
    steps.take(vip, before, after);
    size += 1 + Math.max(before?.length ?? 0, after?.length ?? 0);
    if (size < BATCH_PLACES_MAX) continue;
    yield steps.batch();
    steps = new Steps(seed);
    size = 0;
  }
  if (size > 0) yield steps.batch();
}

/** Gathers the messages of one transaction, in an order in which nothing is named that is not there. */
class Steps {
  readonly #seed: number;
  readonly #chains = new MessageBuilder();
  readonly #gone = {
    dead: new Elements(MSG.DELSETELEM, 'dead'),
    vips: new Elements(MSG.DELSETELEM, 'vips'),
    backends: new Elements(MSG.DELSETELEM, 'backends'),
  };
  readonly #come = {
    backends: new Elements(MSG.NEWSETELEM, 'backends'),
    vips: new Elements(MSG.NEWSETELEM, 'vips'),
    dead: new Elements(MSG.NEWSETELEM, 'dead'),
  };
  #deletes = false;

  constructor(seed: number) {
    this.#seed = seed;
  }

  take(vip: string, before: readonly string[] | undefined, after: readonly string[] | undefined): void {
    const family = familyOf(vip);
    const [was, is] = [before ?? [], after ?? []];
    const [wasDead, isDead] = [before?.length === 0, after?.length === 0];
    if (wasDead !== isDead) (wasDead ? this.#gone : this.#come).dead.add(family, element(ipBytes(vip)));
    if (was.length > 0 && is.length === 0) {
      this.#gone.vips.add(family, mapped(vip));
      ofChain(this.#chains, MSG.DELRULE, 0, vip);
      ofChain(this.#chains, MSG.DELCHAIN, 0, vip);
    } else if (was.length === 0 && is.length > 0) {
      ofChain(this.#chains, MSG.NEWCHAIN, NLM_F_CREATE, vip);
      rule(this.#chains, vip, is);
      this.#come.vips.add(family, mapped(vip));
    } else if (was.length !== is.length || (is.length === 1 && was[0] !== is[0])) {
      ofChain(this.#chains, MSG.DELRULE, 0, vip);
      rule(this.#chains, vip, is);
    }
    this.#deletes ||= was.length > 0 || wasDead;
    this.#places(vip, was, is);
  }

  /** Only places that hold another backend than before are touched. */
  #places(vip: string, was: readonly string[], is: readonly string[]): void {
    const family = familyOf(vip);
    if (was.length <= 1) {
      if (is.length > 1) this.#come.backends.add(family, turned(vip, is, this.#seed));
      return;
    }
    const keep = is.length > 1 ? is : [];
    const gone: number[] = [];
    const come: number[] = [];
    const backendAt = (list: readonly string[], turn: number): string | undefined =>
      turn < list.length ? list[(turn + this.#seed) % list.length] : undefined;
    for (let turn = 0; turn < Math.max(was.length, keep.length); turn++) {
      const [from, to] = [backendAt(was, turn), backendAt(keep, turn)];
      if (from === to) continue;
      if (from !== undefined) gone.push(turn);
      if (to !== undefined) come.push(turn);
    }
    if (gone.length > 0) this.#gone.backends.add(family, keysOf(vip, gone));
    if (come.length > 0) this.#come.backends.add(family, someOf(vip, keep, come, this.#seed));
  }

  batch(): Batch {
    const first = new MessageBuilder();
    for (const elements of Object.values(this.#gone)) elements.write(first);
    const last = new MessageBuilder();
    for (const elements of Object.values(this.#come)) elements.write(last);
    return { messages: [first.take(), this.#chains.take(), last.take()], deletes: this.#deletes };
  }
}
