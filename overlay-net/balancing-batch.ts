/**
 * Changes of a sandbox's balancing as messages for the kernel: the same that `balancingDiff` says in nft's words, at a
 * fraction of its cost. What a virtual address needs is made once for all sandboxes; only the turn of its backends is
 * each one's own. Pure.
 */
import type { VipChange } from './balancing-index.ts';
import { familyOf, ipBytes, type Family } from './ip.ts';
import { MessageBuilder } from './kernel/netlink-message.ts';
import { nftMessage } from './kernel/nft-batch.ts';
import { chainOf } from './plan-balancing.ts';
import { INNER_TABLE } from './plan-nft.ts';

/** Messages of nf_tables, linux/netfilter/nf_tables.h. */
const MSG = { NEWCHAIN: 3, DELCHAIN: 5, NEWRULE: 6, DELRULE: 8, NEWSET: 9, NEWSETELEM: 12, DELSETELEM: 14 } as const;
const NLM_F_CREATE = 0x400;
const NLM_F_APPEND = 0x800;
const NESTED = 0x8000;
/** nfgenmsg's family, which is also that of a NAT expression. */
const NFPROTO = { 4: 2, 6: 10 } as const;
const ADDRESS_BYTES = { 4: 4, 6: 16 } as const;
const TYPE_OF = { 4: 7, 6: 8 } as const;
/** nft's type of numbers without a meaning. */
const TYPE_INTEGER = 4;
/** anonymous | constant | map */
const ANONYMOUS_MAP = 0x0b;
const NFT_GOTO = -4;
const REGISTER = 1;
const NAT_DESTINATION = 1;
/** Elements of one message: a list's length has 16 bits, an element at most 40 bytes. */
const ELEMENTS_PER_MESSAGE = 1024;
/** Addresses that one batch changes at most; each stays in one batch. */
const VIPS_PER_BATCH = 512;
/** What nft writes beside a set, so that it can print it: keys in host order, data in network order. */
const MAP_USERDATA = Buffer.from([0, 4, 1, 0, 0, 0, 1, 4, 2, 0, 0, 0, 6, 4, 0, 0, 0, 0]);
const ANONYMOUS = '__map%d';

/** The rule of one virtual address, with the places of the numbers that say whose turn is when. */
interface Block {
  bytes: Buffer;
  /** Offsets of the elements' keys, in the order of backends. */
  keys: number[];
}

const blocks = new WeakMap<readonly string[], Map<string, Block>>();
let lastSetId = 0;

function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value | 0);
  return bytes;
}

const data = (m: MessageBuilder, type: number, bytes: Uint8Array): MessageBuilder =>
  m.nested(type | NESTED, (one) => one.attribute(1, bytes));

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
function ofChain(m: MessageBuilder, type: number, flags: number, vip: string): void {
  const named = type === MSG.NEWCHAIN || type === MSG.DELCHAIN ? 3 : 2;
  message(m, type, flags, familyOf(vip), () => m.attributeText(named, chainOf(vip)));
}

/** The map from turns to backends, filled; returns where its keys stand. */
function turns(m: MessageBuilder, family: Family, backends: readonly string[], setId: number): number[] {
  const keys: number[] = [];
  const size = ADDRESS_BYTES[family];
  message(m, MSG.NEWSET, NLM_F_CREATE, family, () => {
    m.attributeText(2, ANONYMOUS);
    const facts: [number, number][] = [[3, ANONYMOUS_MAP], [4, TYPE_INTEGER], [5, 4], [6, TYPE_OF[family]], [7, size]]; // prettier-ignore
    for (const [type, value] of [...facts, [0x0a, setId] as const]) m.attribute(type, be32(value));
    m.nested(9 | NESTED, (one) => one.attribute(1, be32(backends.length)));
    m.attribute(0x0d, MAP_USERDATA);
  });
  for (let from = 0; from < backends.length; from += ELEMENTS_PER_MESSAGE) {
    message(m, MSG.NEWSETELEM, NLM_F_CREATE, family, () => {
      m.attributeText(2, ANONYMOUS).attribute(4, be32(setId));
      m.nested(3 | NESTED, (list) => {
        for (const [i, backend] of backends.slice(from, from + ELEMENTS_PER_MESSAGE).entries()) {
          list.nested((i + 1) | NESTED, (one) => {
            data(one, 1, new Uint8Array(4));
            keys.push(one.length - 4);
            data(one, 2, ipBytes(backend));
          });
        }
      });
    });
  }
  return keys;
}

function nat(m: MessageBuilder, family: Family): void {
  expression(m, 'nat', [[1, NAT_DESTINATION], [2, NFPROTO[family]], [3, REGISTER]]); // prettier-ignore
}

function block(vip: string, backends: readonly string[]): Block {
  const known = blocks.get(backends)?.get(vip);
  if (known !== undefined) return known;
  const m = new MessageBuilder();
  const family = familyOf(vip);
  const [only] = backends;
  const setId = (lastSetId = (lastSetId % 0x7fffffff) + 1);
  const keys = backends.length > 1 ? turns(m, family, backends, setId) : [];
  message(m, MSG.NEWRULE, NLM_F_CREATE | NLM_F_APPEND, family, () => {
    m.attributeText(2, chainOf(vip));
    m.nested(4 | NESTED, (list) => {
      if (backends.length === 1 && only !== undefined) {
        expression(list, 'immediate', [[1, REGISTER]], () => data(list, 2, ipBytes(only)));
      } else {
        expression(list, 'numgen', [[1, REGISTER], [2, backends.length], [3, 0], [4, 0]]); // prettier-ignore
        const anonymous = (): unknown => list.attributeText(1, ANONYMOUS).attribute(4, be32(setId));
        expression(list, 'lookup', [[2, REGISTER], [3, REGISTER]], anonymous); // prettier-ignore
      }
      nat(list, family);
    });
  });
  const made = { bytes: m.take(), keys };
  const ofList = blocks.get(backends) ?? new Map<string, Block>();
  blocks.set(backends, ofList.set(vip, made));
  return made;
}

/** The block of one sandbox: it begins with the backend that its seed says, as `rotate` does. */
function turned({ bytes, keys }: Block, seed: number): Buffer {
  if (keys.length === 0) return bytes;
  const own = Buffer.from(bytes);
  const start = seed % keys.length;
  keys.forEach((at, i) => own.writeUInt32LE((i - start + keys.length) % keys.length, at));
  return own;
}

function elements(m: MessageBuilder, type: number, set: string, vips: readonly string[], verdicts: boolean): void {
  for (const family of [4, 6] as const) {
    const own = vips.filter((vip) => familyOf(vip) === family);
    if (own.length === 0) continue;
    message(m, type, type === MSG.NEWSETELEM ? NLM_F_CREATE : 0, family, () => {
      m.attributeText(2, set);
      m.nested(3 | NESTED, (list) => {
        for (const [i, vip] of own.entries()) {
          list.nested((i + 1) | NESTED, (one) => {
            data(one, 1, ipBytes(vip));
            if (verdicts) one.nested(2 | NESTED, (value) => goTo(value, chainOf(vip)));
          });
        }
      });
    });
  }
}

function goTo(m: MessageBuilder, chain: string): void {
  m.nested(2 | NESTED, (one) => one.attribute(1, be32(NFT_GOTO)).attributeText(2, chain));
}

export interface Batch {
  messages: Buffer[];
  /** It takes something away. */
  deletes: boolean;
}

const alive = (places: readonly string[] | undefined): places is readonly string[] =>
  places !== undefined && places.length > 0;

/** Transactions that lead a sandbox's tables through the changes; each virtual address changes in one of them. */
export function balancingBatches(changes: Iterable<[string, VipChange]>, seed: number): Batch[] {
  const list = [...changes];
  const batches: Batch[] = [];
  for (let from = 0; from < list.length; from += VIPS_PER_BATCH) {
    batches.push(oneBatch(list.slice(from, from + VIPS_PER_BATCH), seed));
  }
  return batches;
}

function oneBatch(changes: readonly [string, VipChange][], seed: number): Batch {
  const pick = (keep: (change: VipChange) => boolean): string[] =>
    changes.filter(([, change]) => keep(change)).map(([vip]) => vip);
  const isDead = (places: readonly string[] | undefined): boolean => places?.length === 0;
  const revived = pick(({ before, after }) => isDead(before) && !isDead(after));
  const died = pick(({ before, after }) => !isDead(before) && isDead(after));
  const went = pick(({ before, after }) => alive(before) && !alive(after));
  const came = pick(({ before, after }) => !alive(before) && alive(after));
  const changed = pick(({ before, after }) => alive(before) && alive(after));
  const m = new MessageBuilder();
  elements(m, MSG.DELSETELEM, 'dead', revived, false);
  elements(m, MSG.DELSETELEM, 'vips', went, true);
  for (const vip of [...went, ...changed]) ofChain(m, MSG.DELRULE, 0, vip);
  for (const vip of went) ofChain(m, MSG.DELCHAIN, 0, vip);
  for (const vip of came) ofChain(m, MSG.NEWCHAIN, NLM_F_CREATE, vip);
  const own = changes.flatMap(([vip, { after }]) => (alive(after) ? [turned(block(vip, after), seed)] : []));
  const messages = [m.take(), ...own];
  elements(m, MSG.NEWSETELEM, 'vips', came, true);
  elements(m, MSG.NEWSETELEM, 'dead', died, false);
  messages.push(m.take());
  return { messages, deletes: revived.length + went.length + changed.length > 0 };
}
