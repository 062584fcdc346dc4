import { expect, test } from 'vitest';
import { VirtualClock, type LogLevel } from '../base/index.ts';
import type { EventFacts } from '../api/index.ts';
import type { Engine } from '../engine/index.ts';
import { loadConfig } from './config.ts';
import { EventHub } from './events.ts';
import { applyReload, reloadPlan, type RegistryRules } from './reload.ts';

const fresh = (more: object): ReturnType<typeof loadConfig> => ({ ...loadConfig({}, []), ...more });

test('what can be changed now, and what needs a restart, in the names of settings', () => {
  const before = fresh({});
  const after = fresh({ labels: { a: 'b' }, dataRoot: '/other', registryMirrors: ['http://m'], warnings: ['new'] });
  expect(reloadPlan(before, before)).toEqual({ live: [], restart: [] });
  expect(reloadPlan(before, after)).toEqual({ live: ['labels', 'registry-mirrors'], restart: ['data-root'] });
});

test('a reload takes effect, and is told by an event; a bad value changes nothing', async () => {
  const hub = new EventHub(new VirtualClock());
  const config = fresh({});
  const seen: { level?: LogLevel; rules?: RegistryRules } = {};
  const engine = {
    setLogDefaults({ type }: { type: string }) {
      if (type === 'bad') throw new Error("no log driver named 'bad' is registered");
    },
  } as unknown as Engine;
  const parts = {
    ...{ config, engine, hub, daemonId: 'me', nowMs: 1 },
    setLogLevel: (level: LogLevel) => void (seen.level = level),
    setRegistries: (rules: RegistryRules) => void (seen.rules = rules),
  };
  expect(() => applyReload(parts, fresh({ labels: { x: 'y' }, logDriver: { type: 'bad', config: {} } }))).toThrow(
    'bad',
  );
  expect(config.labels).toEqual({});
  applyReload(parts, fresh({ debug: true, logLevel: 'debug', labels: { x: 'y' }, insecureRegistries: ['r:1'] }));
  expect(config).toMatchObject({ debug: true, labels: { x: 'y' } });
  expect(seen).toEqual({ level: 'debug', rules: { insecure: ['r:1'], mirrors: [] } });
  const told: EventFacts[] = [];
  const read = new AbortController();
  for await (const event of hub.stream({ sinceMs: 0 }, read.signal)) {
    told.push(event);
    read.abort();
  }
  expect(told).toMatchObject([{ type: 'daemon', action: 'reload', actorId: 'me', attributes: { labels: '["x=y"]' } }]);
});
