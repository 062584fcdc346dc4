import { invalidArgument } from '../base/index.ts';
import { parseConstraints, type Constraint } from './constraint.ts';

/** Labels of a service that placement reads (docs/adr/0009). */
export const AFFINITY_LABEL = 'shoal.affinity';
export const ANTI_AFFINITY_LABEL = 'shoal.anti-affinity';
export const PRIORITY_LABEL = 'shoal.priority';
export const PREEMPT_LABEL = 'shoal.preempt';
export const STRATEGY_LABEL = 'shoal.placement.strategy';
/** Label of the cluster (`docker swarm` spec, Labels): the strategy of services that choose none. */
export const CLUSTER_STRATEGY_LABEL = 'shoal.scheduler.strategy';

/** How nodes are ranked: `spread` levels the tasks of a service, `binpack` fills a node before it goes to the next. */
export type PlacementStrategy = 'spread' | 'binpack';
const STRATEGIES: readonly PlacementStrategy[] = ['spread', 'binpack'];

const PRIORITY_MIN = 0;
const PRIORITY_MAX = 1000;
/** Conditions in one label. */
const CONDITIONS_MAX = 16;

/** What a service asks of placement beyond Swarm's fields. */
export interface PlacementHints {
  /** Only nodes that hold a task of a service with these labels (`service.name`, `service.labels.x`). */
  affinity: readonly Constraint[];
  /** Only nodes that hold no task of a service that matches one of these. */
  antiAffinity: readonly Constraint[];
  /** 0 to 1000; higher ones may take the place of lower ones where `preempt` is set. */
  priority: number;
  /** Whether tasks of this service may push tasks of lower priority off a node when they fit nowhere. */
  preempt: boolean;
  /** Absent: the cluster's. */
  strategy?: PlacementStrategy;
}

const NONE: PlacementHints = { affinity: [], antiAffinity: [], priority: 0, preempt: false };

const SERVICE_KEY = /^service\.(?:name|labels\..+)$/i;

function conditions(label: string, text: string | undefined): Constraint[] {
  if (text === undefined) return [];
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  if (parts.length > CONDITIONS_MAX) throw invalidArgument(`${label}: at most ${CONDITIONS_MAX} conditions`);
  const parsed = parseConstraints(parts);
  for (const { key, operator } of parsed) {
    if (!SERVICE_KEY.test(key)) {
      throw invalidArgument(`${label}: '${key}' is neither service.name nor service.labels.<label>`);
    }
    if (operator !== '==') throw invalidArgument(`${label}: only '==' can be used`);
  }
  return parsed;
}

function isPriority(text: string): boolean {
  return /^\d{1,4}$/.test(text) && Number(text) <= PRIORITY_MAX;
}

/** The priority among the labels of a stored service; an unreadable one counts as none given, 0. */
export function priorityAmong(labels: Readonly<Record<string, string>> | undefined): number {
  const text = labels?.[PRIORITY_LABEL];
  return text === undefined || !isPriority(text) ? 0 : Number(text);
}

/**
 * Reads a placement strategy.
 * @param label where it stands. @throws ShoalError InvalidArgument that names the label.
 */
export function parseStrategy(label: string, text: string): PlacementStrategy {
  const strategy = STRATEGIES.find((one) => one === text);
  if (strategy === undefined) throw invalidArgument(`${label}: '${text}' is not one of ${STRATEGIES.join(', ')}`);
  return strategy;
}

/**
 * Reads the labels of a service that concern placement.
 * @throws ShoalError InvalidArgument that names the label.
 */
export function parsePlacementHints(labels: Readonly<Record<string, string>> | undefined): PlacementHints {
  if (labels === undefined) return NONE;
  const priority = labels[PRIORITY_LABEL] ?? '0';
  if (!isPriority(priority)) {
    throw invalidArgument(`${PRIORITY_LABEL}: '${priority}' is not a number from ${PRIORITY_MIN} to ${PRIORITY_MAX}`);
  }
  const preempt = labels[PREEMPT_LABEL] ?? 'false';
  if (preempt !== 'true' && preempt !== 'false') {
    throw invalidArgument(`${PREEMPT_LABEL}: '${preempt}' is neither true nor false`);
  }
  const strategy = labels[STRATEGY_LABEL];
  return {
    ...(strategy === undefined ? {} : { strategy: parseStrategy(STRATEGY_LABEL, strategy) }),
    affinity: conditions(AFFINITY_LABEL, labels[AFFINITY_LABEL]),
    antiAffinity: conditions(ANTI_AFFINITY_LABEL, labels[ANTI_AFFINITY_LABEL]),
    priority: Number(priority),
    preempt: preempt === 'true',
  };
}
