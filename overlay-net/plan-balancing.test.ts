import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createFfiKernel } from './kernel/ffi-kernel.ts';
import { balancingDiff, balancingTable, type Balancing } from './plan-balancing.ts';

const SERVICES = 2000;

/** Services with `tasks` backends each, in both families. */
function many(tasks: number): Balancing {
  const all = new Map<string, string[]>();
  for (let i = 0; i < SERVICES; i++) {
    const own = Array.from({ length: tasks }, (_, k) => i * tasks + k);
    all.set(
      `10.128.${i >> 8}.${i & 255}`,
      own.map((n) => `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`),
    );
    all.set(
      `fd00::${i.toString(16)}:0`,
      own.map((n) => `fd01::${n.toString(16)}`),
    );
  }
  return all;
}

test('however many services there are, each table has one map of backends that one rule looks into', () => {
  const text = balancingTable(many(3), 7, true, [4, 6]);
  expect(text.match(/map @backends/g)).toHaveLength(2);
  expect(text.match(/^ {2}(?:map|set) /gm)).toHaveLength(2 * 3);
  expect(text).not.toMatch(/map \{/);
});

test('a change touches the places that changed, and rules only where the number of backends did', () => {
  const vip = '10.0.0.9';
  const diff = (before: string[], after: string[]): string[] =>
    balancingDiff(new Map([[vip, before]]), new Map([[vip, after]]), 0)
      .split('\n')
      .filter((line) => line !== '');
  expect(diff(['10.0.0.1', '10.0.0.2', '10.0.0.3'], ['10.0.0.1', '10.0.0.2', '10.0.0.4'])).toEqual([
    'delete element ip shoal backends { 10.0.0.9 . 2 }',
    'add element ip shoal backends { 10.0.0.9 . 2 : 10.0.0.4 }',
  ]);
  expect(diff(['10.0.0.1', '10.0.0.2'], ['10.0.0.1', '10.0.0.2', '10.0.0.3'])).toEqual([
    'flush chain ip shoal v_10_0_0_9',
    'add rule ip shoal v_10_0_0_9 meta mark set numgen inc mod 3 goto turn',
    'add element ip shoal backends { 10.0.0.9 . 2 : 10.0.0.3 }',
  ]);
  expect(diff(['10.0.0.1', '10.0.0.2'], ['10.0.0.2'])).toEqual([
    'delete element ip shoal backends { 10.0.0.9 . 0, 10.0.0.9 . 1 }',
    'flush chain ip shoal v_10_0_0_9',
    'add rule ip shoal v_10_0_0_9 dnat to 10.0.0.2',
  ]);
  expect(diff(['10.0.0.1'], ['10.0.0.1'])).toEqual([]);
});

test('the kernel takes thousands of services, and a change of all of them, as one transaction each', async () => {
  const root = mkdtempSync(join(tmpdir(), 'shoal-'));
  const namespace = join(root, 'ns');
  const kernel = createFfiKernel();
  const list = (family: string): Promise<string> => kernel.nft(namespace, `list table ${family} shoal\n`);
  const listing = async (): Promise<string> => `${await list('ip')}${await list('ip6')}`;
  await kernel.createNamespace(namespace);
  try {
    const [few, more] = [many(2), many(3)];
    await kernel.nft(namespace, balancingTable(few, 7, true, [4, 6]), true);
    await kernel.nft(namespace, balancingDiff(few, more, 7));
    const changed = await listing();
    await kernel.nft(namespace, balancingTable(more, 7, false, [4, 6]));
    const whole = await listing();
    const sorted = (text: string): string[] => text.split(/[\n,]/).map((part) => part.trim());
    expect(sorted(changed).sort()).toEqual(sorted(whole).sort());
  } finally {
    kernel.removeNamespace(namespace);
    rmSync(root, { recursive: true, force: true });
  }
});
