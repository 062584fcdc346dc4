import { hostname } from 'node:os';
import type { LogLevel } from '../base/index.ts';
import type { Engine } from '../engine/index.ts';
import type { DaemonConfig } from './config.ts';
import type { EventHub } from './events.ts';

/** Settings that take effect at once; all others wait for a restart. */
const LIVE = ['labels', 'debug', 'logLevel', 'insecureRegistries', 'registryMirrors', 'logDriver'] as const;
/** No settings of a user's. */
const NOT_TOLD: readonly string[] = ['warnings', 'configFile'];

/** `insecureRegistries` as users write it: insecure-registries. */
const settingName = (key: string): string => key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

const differs = (a: unknown, b: unknown): boolean => JSON.stringify(a) !== JSON.stringify(b);

/** Settings that differ: those that can be changed now, and those that need a restart. */
export function reloadPlan(config: DaemonConfig, fresh: DaemonConfig): { live: string[]; restart: string[] } {
  const keys = Object.keys(fresh) as (keyof DaemonConfig)[];
  const changed = keys.filter((key) => !NOT_TOLD.includes(key) && differs(config[key], fresh[key]));
  const isLive = (key: string): boolean => LIVE.some((known) => known === key);
  return {
    live: changed.filter(isLive).map(settingName),
    restart: changed.filter((key) => !isLive(key)).map(settingName),
  };
}

/** Which registries are trusted without TLS, and which stand in for docker.io. */
export interface RegistryRules {
  insecure: readonly string[];
  mirrors: readonly string[];
}

export interface ReloadedParts {
  config: DaemonConfig;
  engine: Engine;
  hub: EventHub;
  daemonId: string;
  setLogLevel: (level: LogLevel) => void;
  setRegistries: (rules: RegistryRules) => void;
  nowMs: number;
}

/**
 * Takes over what can be changed while the daemon runs, and tells it by the event `daemon reload`.
 * @throws ShoalError when a value is not good; nothing has changed then.
 */
export function applyReload(parts: ReloadedParts, fresh: DaemonConfig): { live: string[]; restart: string[] } {
  const { config, engine, hub } = parts;
  const plan = reloadPlan(config, fresh);
  // The only one that can be refused comes first.
  engine.setLogDefaults(fresh.logDriver);
  for (const key of LIVE) Object.assign(config, { [key]: fresh[key] });
  parts.setLogLevel(config.logLevel);
  parts.setRegistries({ insecure: config.insecureRegistries, mirrors: config.registryMirrors });
  hub.publish({
    type: 'daemon',
    action: 'reload',
    actorId: parts.daemonId,
    attributes: {
      name: hostname(),
      debug: String(config.debug),
      labels: JSON.stringify(Object.entries(config.labels).map(([key, value]) => `${key}=${value}`)),
      'insecure-registries': JSON.stringify(config.insecureRegistries),
      'registry-mirrors': JSON.stringify(config.registryMirrors),
      'log-driver': config.logDriver.type,
      'log-opts': JSON.stringify(config.logDriver.config),
      'live-restore': 'true',
    },
    scope: 'local',
    timeMs: parts.nowMs,
  });
  return plan;
}
