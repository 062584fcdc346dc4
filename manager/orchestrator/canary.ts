import { TaskState, timestampFromMs, type Service } from '../../proto/index.ts';
import {
  openCanary,
  promoted,
  slotCount,
  waitingSinceMs,
  withMessage,
  type CanarySettings,
} from '../settings/index.ts';
import type { Op } from './driver.ts';
import { isDirty } from './restart.ts';
import { observed, type ServiceState } from './service-view.ts';
import type { Slot } from './slot.ts';
import { broughtTasks } from './update-progress.ts';

/** An update that changes a few slots, then waits for a promotion. */
export interface Canary {
  readonly settings: CanarySettings;
  /** The service as it was before the update: new tasks of all other slots follow this. */
  readonly older: ServiceState;
  /** Whether the new version was put into this slot. */
  has(slot: Slot): boolean;
}

const formers = new WeakMap<Service, Service>();

/** The service with the task template of its previous spec; numbers and settings are those of the present one. */
function formerOf(service: Service): Service {
  const known = formers.get(service);
  if (known !== undefined) return known;
  const { spec, previous_spec: previous } = service;
  const former =
    spec === null || previous === null
      ? service
      : {
          ...service,
          spec: { ...spec, task: previous.task, endpoint: previous.endpoint, annotations: previous.annotations },
          spec_version: service.previous_spec_version,
        };
  formers.set(service, former);
  return former;
}

/** The canary of the running (or paused) update; undefined when there is none, or it was promoted. */
export function canaryOf(state: ServiceState): Canary | undefined {
  const settings = openCanary(state.service, slotCount(state.service, state.tasks));
  if (settings === undefined) return undefined;
  const older = { ...state, service: formerOf(state.service) };
  // A task that suits both specs (constraints that its node satisfies anyway) tells nothing of the new version.
  const has = (slot: Slot): boolean =>
    broughtTasks(state, slot).length > 0 || slot.wanted.some((task) => !isDirty(state, task) && isDirty(older, task));
  return { settings, older, has };
}

/** What new tasks of a slot follow. */
export function stateFor(state: ServiceState, canary: Canary | undefined, slot: Slot): ServiceState {
  return canary === undefined || canary.has(slot) ? state : canary.older;
}

/**
 * The slots that a canary may change, of those that are out of date: those it has begun, then others up to its number;
 * first those that follow neither spec (the canaries of an update before that was never promoted).
 */
export function canarySlots<W extends { slot: Slot }>(
  canary: Canary,
  slots: readonly Slot[],
  work: readonly W[],
): readonly W[] {
  const begun = work.filter(({ slot }) => canary.has(slot));
  const rest = work.filter(({ slot }) => !canary.has(slot));
  const isOdd = ({ slot }: W): boolean => slot.wanted.some((task) => isDirty(canary.older, task));
  const ranked = [...rest.filter(isOdd), ...rest.filter((one) => !isOdd(one))];
  const room = canary.settings.tasks - slots.filter((slot) => canary.has(slot)).length;
  return [...begun, ...ranked.slice(0, Math.max(0, room))];
}

/** The canaries are up: from now on the update waits. */
function waits(state: ServiceState, canary: Canary, slots: readonly Slot[]): Op {
  const { service, nowMs } = state;
  const mine = slots.filter((slot) => canary.has(slot));
  const runs = (slot: Slot): boolean =>
    slot.wanted.some((task) => observed(task) === TaskState.RUNNING && !isDirty(state, task));
  const total = slotCount(service, state.tasks);
  const message = `waiting for promotion: ${mine.filter(runs).length} of ${total} tasks run the new version`;
  const status = { tasks: mine.length, waiting_since: timestampFromMs(nowMs), promoted_at: null };
  return { op: 'update-service', service: { ...withMessage(service, message), canary: status } };
}

/** What an update does whose canaries are all up and were watched long enough: waits, or goes on when its time is over. */
export function planWait(
  state: ServiceState,
  canary: Canary,
  slots: readonly Slot[],
): { steps: Op[][]; wakeAtMs: number | undefined } {
  const since = waitingSinceMs(state.service);
  if (since === 0) return { steps: [[waits(state, canary, slots)]], wakeAtMs: undefined };
  if (canary.settings.waitMs === undefined) return { steps: [], wakeAtMs: undefined };
  const dueAt = since + canary.settings.waitMs;
  if (dueAt > state.nowMs) return { steps: [], wakeAtMs: dueAt };
  return { steps: [[{ op: 'update-service', service: promoted(state.service, state.nowMs) }]], wakeAtMs: undefined };
}
