import { expect, it } from 'vitest';
import { GROUPS, TOP } from './catalog.ts';
import type { CommandGroup } from './command.ts';

it('every verb that is written can be asked for, and every one that can be asked for is written', async () => {
  const entries = [...Object.values(GROUPS).flatMap(({ commands }) => Object.values(commands)), ...Object.values(TOP)];
  const loaded = new Map<CommandGroup, Set<string>>();
  for (const { key, load } of entries) {
    const group = await load();
    loaded.set(group, (loaded.get(group) ?? new Set()).add(key));
  }
  for (const [group, keys] of loaded) expect([...keys].sort()).toEqual(Object.keys(group).sort());
});
