/** Plans and the kernel agree after any history: what counts is the last table alone. */
import fc from 'fast-check';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { NetworkTable } from '../proto/index.ts';
import { createFfiKernel } from './kernel/ffi-kernel.ts';
import type { Kernel, Op } from './kernel/index.ts';
import { balancingBatches } from './balancing-batch.ts';
import { BalancingIndex, balancingOf, type VipChange } from './balancing-index.ts';
import { balancingDiff, balancingTable } from './plan-balancing.ts';
import { LivePlan, planIngress, planOverlay } from './live-plan.ts';
import { diffItems, itemsOf, VXLAN_LINK, type Items } from './plan.ts';

const underlay = { vtep: '192.0.2.1', dataPathPort: 4789, nodeId: 'n1', mtu: 1500 };
/** Runs against the kernel; each is a history of a few tables. */
const KERNEL_RUNS = 12;

/** One task as a table may tell of it: tasks move between hosts, change MAC, stop serving, have IPv6 or not. */
const task = fc.record({
  number: fc.integer({ min: 3, max: 40 }),
  node: fc.integer({ min: 1, max: 4 }),
  mac: fc.integer({ min: 0, max: 1 }),
  six: fc.boolean(),
  serving: fc.boolean(),
  weight: fc.integer({ min: 0, max: 3 }),
  service: fc.integer({ min: 1, max: 3 }),
});
type Task = typeof task extends fc.Arbitrary<infer T> ? T : never;
const tasks = fc.uniqueArray(task, { maxLength: 12, selector: ({ number }) => number });
const histories = fc.array(tasks, { minLength: 1, maxLength: 5 });

const hex = (value: number): string => value.toString(16).padStart(2, '0');

function tableOf(list: readonly Task[]): NetworkTable {
  return NetworkTable.create({
    network_id: 'net',
    network: { ipam: { configs: [{ subnet: '10.0.0.0/24' }, { subnet: 'fd00:9::/64' }] } },
    endpoints: list.map(({ number, node, mac, six, serving, weight, service }) => ({
      task_id: `t${number}`,
      service_id: `s${service}`,
      node_id: `n${node}`,
      vtep: `192.0.2.${node}`,
      address: `10.0.0.${number}/24`,
      address6: six ? `fd00:9::${number.toString(16)}/64` : '',
      mac: `02:42:0a:00:0${mac}:${hex(number)}`,
      serving,
      weight,
    })),
    services: [...new Set(list.map(({ service }) => service))].map((service) => ({
      service_id: `s${service}`,
      name: `web${service}`,
      vip: `10.0.0.${200 + service}`,
      vip6: `fd00:9::c${service}`,
    })),
  });
}

/** Where the kernel keeps an op's entry; two ops on one place overwrite each other. */
function placeOf(op: Op): string {
  if (op.kind === 'neigh') return `neigh ${op.dev} ${op.ip}`;
  if (op.kind === 'fdb') return `fdb ${op.dev} ${op.mac}`;
  if (op.kind === 'route') return `route ${op.table ?? 254} ${op.to}`;
  if (op.kind === 'rule') return `rule ${op.family ?? 4} ${op.mark} ${op.table} ${op.priority}`;
  throw new Error(`plans hold no ${op.kind}`);
}

/** A kernel as plain as can be: what is added stands until it is deleted or replaced. */
function play(state: Map<string, Op>, ops: readonly Op[]): void {
  for (const op of ops) {
    if ('del' in op && op.del === true) state.delete(placeOf(op));
    else state.set(placeOf(op), op);
  }
}

const entries = (items: Iterable<Op>): string[] =>
  [...items].map((op) => JSON.stringify(Object.entries(op).map(String).sort())).sort();

test('any sequence of tables ends in the items of the last alone, in both families', () => {
  fc.assert(
    fc.property(histories, fc.boolean(), (history, ingress) => {
      const plan = ingress ? planIngress : planOverlay;
      const live = new LivePlan(ingress);
      const kernel = new Map<string, Op>();
      const followed = new Map<string, Op>();
      let applied: Items = new Map();
      for (const list of history) {
        const desired = plan(tableOf(list), underlay);
        play(kernel, diffItems(applied, desired));
        play(followed, live.update(tableOf(list), underlay));
        expect(entries(followed.values())).toEqual(entries(desired.values()));
        expect(live.items).toEqual(desired);
        applied = desired;
        expect(entries(kernel.values())).toEqual(entries(desired.values()));
        expect(diffItems(applied, plan(tableOf(list), underlay))).toEqual([]);
      }
    }),
  );
});

/** A listing without what depends on the order in which things came. */
function parts(listing: string): string[] {
  return listing
    .split(/[\n,]|(?<=\{)|elements = /)
    .map((line) => line.replaceAll(/[{}]/g, '').trim())
    .filter((line) => line !== '')
    .sort();
}

/** Two namespaces for a history, one that goes all the way and one that starts at the end. */
async function twoNamespaces(use: (kernel: Kernel, long: string, fresh: string) => Promise<void>): Promise<void> {
  const root = mkdtempSync(join(tmpdir(), 'shoal-'));
  const kernel = createFfiKernel();
  const [long, fresh] = [join(root, 'long'), join(root, 'fresh')];
  try {
    for (const namespace of [long, fresh]) {
      await kernel.createNamespace(namespace);
      await kernel.apply(namespace, [
        { kind: 'link', name: 'lo', up: true },
        { kind: 'bridge', name: 'br0' },
        {
          kind: 'vxlan',
          name: VXLAN_LINK,
          namespace,
          vni: 7,
          local: '127.0.0.1',
          port: 4999,
          mtu: 1450,
          proxy: true,
        },
        { kind: 'link', name: VXLAN_LINK, up: true, master: 'br0' },
      ]);
    }
    await use(kernel, long, fresh);
  } finally {
    for (const namespace of [long, fresh]) kernel.removeNamespace(namespace);
    rmSync(root, { recursive: true, force: true });
  }
}

test('the real kernel too: neighbours, forwarding entries, routes and rules, however they came', async () => {
  await twoNamespaces(async (kernel, long) => {
    let applied: Items = new Map();
    await fc.assert(
      fc.asyncProperty(histories, async (history) => {
        for (const list of history) {
          const desired = planOverlay(tableOf(list), underlay);
          await kernel.apply(long, diffItems(applied, desired));
          applied = desired;
          const held = itemsOf(await kernel.state(long));
          expect(entries(held.values())).toEqual(entries(desired.values()));
          expect([...held.keys()].sort()).toEqual([...desired.keys()].sort());
        }
      }),
      { numRuns: KERNEL_RUNS },
    );
  });
});

test('rules of balancing that came step by step are those that a new container gets', async () => {
  await twoNamespaces(async (kernel, long, fresh) => {
    const families = [4, 6] as const;
    let before = balancingOf(tableOf([]), new Set());
    await kernel.nft(long, balancingTable(before, 3, true, families));
    const index = new BalancingIndex();
    index.update(tableOf([]), new Set());
    let sequence = index.sequence;
    await fc.assert(
      fc.asyncProperty(histories, fc.boolean(), async (history, words) => {
        for (const list of history) {
          const after = balancingOf(tableOf(list), new Set());
          const text = balancingDiff(before, after, 3);
          index.update(tableOf(list), new Set());
          expect(index.current).toEqual(after);
          if (words && text !== '') await kernel.nft(long, text);
          const changes = index.since(sequence) ?? new Map<string, VipChange>();
          for (const { messages, deletes } of words ? [] : balancingBatches(changes, 3)) {
            await kernel.nftBatch?.(long, messages, deletes);
          }
          sequence = index.sequence;
          before = after;
        }
        // A new container gets an empty frame that is filled.
        await kernel.nft(fresh, balancingTable(words ? before : new Map(), 3, false, families));
        const all = [...before].map(([vip, after]): [string, VipChange] => [vip, { before: undefined, after }]);
        for (const { messages, deletes } of words ? [] : balancingBatches(all, 3)) {
          await kernel.nftBatch?.(fresh, messages, deletes);
        }
        const listed = await kernel.nft(fresh, 'list ruleset\n');
        expect(parts(await kernel.nft(long, 'list ruleset\n'))).toEqual(parts(listed));
        await kernel.nft(long, balancingTable(before, 3, false, families));
        expect(parts(await kernel.nft(long, 'list ruleset\n'))).toEqual(parts(listed));
      }),
      { numRuns: KERNEL_RUNS },
    );
  });
});
