import { isIP } from 'node:net';
import { invalidArgument, parseDuration } from '../../base/index.ts';
import {
  AFFINITY_LABEL,
  ANTI_AFFINITY_LABEL,
  parsePlacementHints,
  PREEMPT_LABEL,
  PRIORITY_LABEL,
  STRATEGY_LABEL,
} from '../../scheduler/index.ts';
import { isTimeZone, parseCron } from './cron.ts';

/** Labels with this prefix are settings of Shoal (docs/adr/0009); no other label of it is taken. */
export const SETTINGS_PREFIX = 'shoal.';

/** Longest time without a new running task before an update counts as failed, ms, unless the service says otherwise. */
const UPDATE_DEADLINE_DEFAULT_MS = 10 * 60_000;
const DRAIN_LABEL = 'shoal.drain';
const DRAIN_DEFAULT_MS = 5_000;
const DURATION_MAX_MS = 7 * 24 * 3_600_000;
const REPLICAS_MAX = 100_000;
const PERCENT_MAX = 10_000;
const SCALE_UP_AFTER_DEFAULT_MS = 15_000;
const SCALE_DOWN_AFTER_DEFAULT_MS = 120_000;
const CRON_HISTORY_DEFAULT = 5;
const CRON_HISTORY_MAX = 100;
const DEPENDENCIES_MAX = 32;

export interface AutoscaleSettings {
  min: number;
  max: number;
  /** Target use in per cent of the task's CPU limit, or of one CPU without a limit; undefined: CPU does not count. */
  cpuPercent: number | undefined;
  /** Target use in per cent of the task's memory limit. */
  memoryPercent: number | undefined;
  /** How long the use must ask for more (fewer) replicas before they come (go), ms. */
  upAfterMs: number;
  downAfterMs: number;
}

export interface CronSettings {
  /** Five fields: minute, hour, day of month, month, day of week; or `@hourly`, `@daily` and the like. */
  schedule: string;
  /** IANA name. */
  timeZone: string;
  /** What happens when a run is due while one is still at work. */
  concurrency: 'allow' | 'forbid' | 'replace';
  /** Finished runs that are remembered. */
  history: number;
}

export type DependencyCondition = 'started' | 'healthy' | 'completed';

export interface Dependency {
  /** Name of a service; within a stack first `<stack>_<name>`. */
  service: string;
  condition: DependencyCondition;
}

/** What a service asks of orchestration beyond Swarm's fields. */
export interface ServiceSettings {
  /** Tasks that an update changes before it waits for a promotion; 0: no canary. */
  canary: number;
  /** Promotes by itself after this time, ms; undefined: only by hand. */
  canaryWaitMs: number | undefined;
  updateDeadlineMs: number;
  /** How long a task may finish its connections before it is told to stop, ms. */
  drainMs: number;
  rebalance: boolean;
  /** Whether a task that moves off a drained node (or is levelled out) stops before its successor starts. */
  moveStopFirst: boolean;
  autoscale: AutoscaleSettings | undefined;
  cron: CronSettings | undefined;
  dependsOn: readonly Dependency[];
  /** Whether an entry host sends connections to its own tasks as long as it has one. */
  prefersLocal: boolean;
  /** Host addresses that published ports are bound to. */
  publishAddresses: readonly PublishAddress[];
}

/** A host address for one published port, or for all of a service's. */
export interface PublishAddress {
  /** Published port; undefined: every port that has no entry of its own. */
  port: number | undefined;
  protocol: 'tcp' | 'udp' | 'sctp';
  /** IP address, or name of an interface whose addresses are meant. */
  address: string;
}

type Labels = Readonly<Record<string, string>>;

const MOVE_ORDER_LABEL = 'shoal.move.order';
const INGRESS_LABEL = 'shoal.ingress';
const PUBLISH_IP_LABEL = 'shoal.publish.ip';
const PUBLISH_ENTRIES_MAX = 256;
/** Names that links can have; not only digits, which would be a port without an address. */
const INTERFACE_NAME = /^(?!\d+$)[a-zA-Z0-9][a-zA-Z0-9._@-]{0,14}$/;
/** Label of containers: the share of new connections that a task gets, beside the others of its service. */
const WEIGHT_LABEL = 'shoal.weight';
const WEIGHT_MAX = 100;

function refuse(label: string, value: string, what: string): never {
  throw invalidArgument(`label ${label}: '${value}' is not ${what}`);
}

function readCount(labels: Labels, label: string, most: number): number | undefined {
  const text = labels[label];
  if (text === undefined) return undefined;
  if (!/^\d{1,9}$/.test(text) || Number(text) > most) refuse(label, text, `a number from 0 to ${most}`);
  return Number(text);
}

function readMs(labels: Labels, label: string): number | undefined {
  const text = labels[label];
  if (text === undefined) return undefined;
  let ms = -1;
  try {
    ms = parseDuration(text) / 1e6;
  } catch {
    // Said below, with the name of the label.
  }
  if (ms < 0 || ms > DURATION_MAX_MS) refuse(label, text, 'a duration from 0s to 168h');
  return ms;
}

function readFlag(labels: Labels, label: string): boolean {
  const text = labels[label] ?? 'false';
  if (text !== 'true' && text !== 'false') refuse(label, text, 'true or false');
  return text === 'true';
}

function readWord<T extends string>(labels: Labels, label: string, words: readonly T[], initial: T): T {
  const text = labels[label];
  if (text === undefined) return initial;
  return words.find((word) => word === text) ?? refuse(label, text, `one of ${words.join(', ')}`);
}

function readAutoscale(labels: Labels): AutoscaleSettings | undefined {
  const max = readCount(labels, 'shoal.autoscale.max', REPLICAS_MAX);
  const min = readCount(labels, 'shoal.autoscale.min', REPLICAS_MAX);
  const cpuPercent = readCount(labels, 'shoal.autoscale.cpu', PERCENT_MAX);
  const memoryPercent = readCount(labels, 'shoal.autoscale.memory', PERCENT_MAX);
  const upAfterMs = readMs(labels, 'shoal.autoscale.up-after');
  const downAfterMs = readMs(labels, 'shoal.autoscale.down-after');
  if ([max, min, cpuPercent, memoryPercent, upAfterMs, downAfterMs].every((one) => one === undefined)) return undefined;
  if (max === undefined) throw invalidArgument('label shoal.autoscale.max is missing: the most replicas there may be');
  if (cpuPercent === undefined && memoryPercent === undefined) {
    throw invalidArgument(
      'autoscaling needs a target: label shoal.autoscale.cpu or shoal.autoscale.memory, in per cent',
    );
  }
  if (cpuPercent === 0) refuse('shoal.autoscale.cpu', '0', 'above 0');
  if (memoryPercent === 0) refuse('shoal.autoscale.memory', '0', 'above 0');
  const least = min ?? 1;
  if (least < 1 || max < least)
    refuse('shoal.autoscale.min', String(least), `between 1 and shoal.autoscale.max (${max})`);
  return {
    min: least,
    max,
    cpuPercent,
    memoryPercent,
    upAfterMs: upAfterMs ?? SCALE_UP_AFTER_DEFAULT_MS,
    downAfterMs: downAfterMs ?? SCALE_DOWN_AFTER_DEFAULT_MS,
  };
}

function readCron(labels: Labels): CronSettings | undefined {
  const schedule = labels['shoal.cron'];
  const others = ['shoal.cron.timezone', 'shoal.cron.concurrency', 'shoal.cron.history'];
  if (schedule === undefined) {
    const stray = others.find((label) => labels[label] !== undefined);
    if (stray !== undefined) throw invalidArgument(`label ${stray} needs a schedule: label shoal.cron is missing`);
    return undefined;
  }
  const timeZone = labels['shoal.cron.timezone'] ?? 'UTC';
  try {
    parseCron(schedule);
  } catch (error) {
    throw invalidArgument(`label shoal.cron: '${schedule}': ${(error as Error).message}`);
  }
  if (!isTimeZone(timeZone)) refuse('shoal.cron.timezone', timeZone, 'a time zone such as UTC or Europe/Berlin');
  return {
    schedule,
    timeZone,
    concurrency: readWord(labels, 'shoal.cron.concurrency', ['allow', 'forbid', 'replace'], 'forbid'),
    history: readCount(labels, 'shoal.cron.history', CRON_HISTORY_MAX) ?? CRON_HISTORY_DEFAULT,
  };
}

const CONDITIONS: readonly DependencyCondition[] = ['started', 'healthy', 'completed'];

/** `db:healthy,cache` – a service without a condition must have started. */
function readDependencies(labels: Labels): Dependency[] {
  const label = 'shoal.depends-on';
  const text = labels[label];
  if (text === undefined) return [];
  const parts = text
    .split(',')
    .map((part) => part.trim())
    .filter((part) => part !== '');
  if (parts.length > DEPENDENCIES_MAX) throw invalidArgument(`label ${label}: at most ${DEPENDENCIES_MAX} services`);
  return parts.map((part) => {
    const [service = '', word = 'started', ...more] = part.split(':');
    const condition = CONDITIONS.find((one) => one === word);
    if (service === '' || condition === undefined || more.length > 0) {
      refuse(label, part, `SERVICE or SERVICE:CONDITION with one of ${CONDITIONS.join(', ')}`);
    }
    return { service, condition };
  });
}

/** `192.0.2.1` for all ports, `8080=192.0.2.1` or `53/udp=2001:db8::1` for one; several with commas. */
function readPublishAddresses(labels: Labels): PublishAddress[] {
  const text = labels[PUBLISH_IP_LABEL];
  if (text === undefined) return [];
  const found: PublishAddress[] = [];
  const form = /^(?:(\d{1,5})(?:\/(tcp|udp|sctp))?=)?(?:\[([^\]]*)\]|(.*))$/;
  for (const part of text.split(',').map((one) => one.trim())) {
    const [, number, protocol = 'tcp', bracketed, plain] = form.exec(part) ?? [];
    const address = bracketed ?? plain ?? '';
    const port = number === undefined ? undefined : Number(number);
    if ((isIP(address) === 0 && !INTERFACE_NAME.test(address)) || port === 0 || (port ?? 1) > 65_535) {
      refuse(PUBLISH_IP_LABEL, part, 'an IP address or interface, or PORT[/PROTOCOL]=ADDRESS with a published port');
    }
    if (found.some((other) => other.port === port && other.protocol === protocol)) {
      throw invalidArgument(`label ${PUBLISH_IP_LABEL}: '${part}': there is an address for this port already`);
    }
    found.push({ port, protocol: protocol as PublishAddress['protocol'], address });
  }
  if (found.length > PUBLISH_ENTRIES_MAX) {
    throw invalidArgument(`label ${PUBLISH_IP_LABEL}: at most ${PUBLISH_ENTRIES_MAX} ports`);
  }
  return found;
}

const KNOWN: ReadonlySet<string> = new Set([
  AFFINITY_LABEL,
  ANTI_AFFINITY_LABEL,
  PRIORITY_LABEL,
  PREEMPT_LABEL,
  STRATEGY_LABEL,
  'shoal.update.canary',
  'shoal.update.canary-wait',
  'shoal.update.deadline',
  DRAIN_LABEL,
  'shoal.rebalance',
  MOVE_ORDER_LABEL,
  'shoal.autoscale.min',
  'shoal.autoscale.max',
  'shoal.autoscale.cpu',
  'shoal.autoscale.memory',
  'shoal.autoscale.up-after',
  'shoal.autoscale.down-after',
  'shoal.cron',
  'shoal.cron.timezone',
  'shoal.cron.concurrency',
  'shoal.cron.history',
  'shoal.depends-on',
  INGRESS_LABEL,
  PUBLISH_IP_LABEL,
]);

/**
 * Reads the settings that a service carries as labels, so that they survive every client of the Docker API and stand in
 * Compose files (docs/adr/0009). What is not there has its default.
 * @throws ShoalError InvalidArgument that names the label: a wrong value, or one of our prefix that means nothing.
 */
export function readServiceSettings(labels: Labels | undefined): ServiceSettings {
  const given = labels ?? {};
  for (const label of Object.keys(given)) {
    if (!label.startsWith(SETTINGS_PREFIX) || KNOWN.has(label)) continue;
    throw invalidArgument(
      `label ${label} is unknown: labels that begin with '${SETTINGS_PREFIX}' are settings of Shoal`,
    );
  }
  parsePlacementHints(given);
  const canary = readCount(given, 'shoal.update.canary', REPLICAS_MAX) ?? 0;
  const canaryWaitMs = readMs(given, 'shoal.update.canary-wait');
  if (canaryWaitMs !== undefined && canary === 0) {
    throw invalidArgument(
      'label shoal.update.canary-wait needs shoal.update.canary, the number of tasks to begin with',
    );
  }
  return {
    canary,
    canaryWaitMs,
    updateDeadlineMs: readMs(given, 'shoal.update.deadline') ?? UPDATE_DEADLINE_DEFAULT_MS,
    drainMs: readMs(given, DRAIN_LABEL) ?? DRAIN_DEFAULT_MS,
    rebalance: readFlag(given, 'shoal.rebalance'),
    moveStopFirst: readWord(given, MOVE_ORDER_LABEL, ['start-first', 'stop-first'], 'start-first') === 'stop-first',
    autoscale: readAutoscale(given),
    cron: readCron(given),
    dependsOn: readDependencies(given),
    prefersLocal: readWord(given, INGRESS_LABEL, ['all', 'local'], 'all') === 'local',
    publishAddresses: readPublishAddresses(given),
  };
}

/** `drainMs` of a task's service, for agents: a label that they cannot read must not keep a task from stopping. */
export function drainMsOf(labels: Labels | undefined): number {
  try {
    return readMs(labels ?? {}, DRAIN_LABEL) ?? DRAIN_DEFAULT_MS;
  } catch {
    return DRAIN_DEFAULT_MS;
  }
}

/** `moveStopFirst` alone, for those who ask for it at every look at a service; never throws. */
export function movesStopFirst(labels: Labels | undefined): boolean {
  return labels?.[MOVE_ORDER_LABEL] === 'stop-first';
}

/** `prefersLocal` alone, as above. */
export function prefersLocalTasks(labels: Labels | undefined): boolean {
  return labels?.[INGRESS_LABEL] === 'local';
}

/** `publishAddresses` alone; never throws: a label that cannot be read binds nothing. */
export function publishAddressesOf(labels: Labels | undefined): readonly PublishAddress[] {
  try {
    return readPublishAddresses(labels ?? {});
  } catch {
    return [];
  }
}

/**
 * The share of new connections that a container's labels ask for, 1 to 100; 0 when they say nothing.
 * @throws ShoalError InvalidArgument that names the label.
 */
export function readWeight(labels: Labels | undefined): number {
  const weight = readCount(labels ?? {}, WEIGHT_LABEL, WEIGHT_MAX);
  if (weight === 0) refuse(WEIGHT_LABEL, '0', `a number from 1 to ${WEIGHT_MAX}`);
  return weight ?? 0;
}

/** The same, 0 for a label that cannot be read. */
export function weightOf(labels: Labels | undefined): number {
  try {
    return readWeight(labels);
  } catch {
    return 0;
  }
}

/** `rebalance` alone, as above. */
export function wantsRebalance(labels: Labels | undefined): boolean {
  return labels?.['shoal.rebalance'] === 'true';
}
