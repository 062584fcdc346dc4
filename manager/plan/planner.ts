import { invalidArgument, unavailable, type Clock, type Random } from '../../base/index.ts';
import {
  NodeSpec,
  NodeSpec_Availability,
  NodeStatus_State,
  PlanResponse,
  type PlanResponse_OfService,
  type Node,
  type PlanRequest,
} from '../../proto/index.ts';
import { resolve, type Planner } from '../control/index.ts';
import type { ReadView, Store } from '../store/types.ts';
import { CRON_LABEL, diffOf, factsOf } from './diff.ts';
import { Scratch } from './scratch.ts';
import { planText } from './text.ts';

/** Tasks of a cluster that a plan copes with, those that it creates included. */
export const PLAN_TASKS_MAX = 20_000;
/** Time that passes in the copy before the change, so that what is under way comes to its end, ms. */
const BEFORE_MS = 60_000;
/** …and after it, ms. */
const AFTER_MS = 600_000;
/** Longest work on one plan, ms; it ends with what is known by then. */
const WORK_MAX_MS = 15_000;
/** Plans that wait for the one that is being made. */
const WAITING_MAX = 4;
/** Longest wait for that, ms. */
const WAIT_MAX_MS = 8_000;

export interface PlannerOptions {
  store: Store;
  clock: Clock;
  random: Random;
}

/** The work came to its bound. */
class OutOfTime extends Error {}

function nodeOf(view: ReadView, reference: string): Node & { spec: NodeSpec } {
  const node = resolve(view, 'node', reference);
  if (node.spec === null) throw invalidArgument(`node ${reference} has no specification`);
  return { ...node, spec: node.spec };
}

/** Makes the change in the copy, through the code that makes it in the cluster. @throws ShoalError in its words */
async function apply(scratch: Scratch, request: PlanRequest): Promise<void> {
  const { control, store } = scratch;
  if (request.create_service !== undefined) {
    await control.CreateService({ spec: request.create_service });
  } else if (request.update_service !== undefined) {
    // What passes before the change may have changed the service; who asks has read it before that.
    const { service_id: reference } = request.update_service;
    const service_version = resolve(store.view(), 'service', reference).meta?.version ?? null;
    await control.UpdateService({ ...request.update_service, service_version });
  } else if (request.remove_service !== undefined) {
    await control.RemoveService({ service_id: request.remove_service });
  } else if (request.node_drain !== undefined) {
    const node = nodeOf(store.view(), request.node_drain);
    const spec = { ...NodeSpec.clone(node.spec), availability: NodeSpec_Availability.DRAIN };
    await control.UpdateNode({ node_id: node.id, node_version: node.meta?.version ?? null, spec });
  } else if (request.node_down !== undefined) {
    const { id } = nodeOf(store.view(), request.node_down);
    await store.update((tx) => {
      const node = nodeOf(tx, id);
      const status = { addr: '', ...node.status, state: NodeStatus_State.DOWN, message: 'planned' };
      tx.update('node', { ...node, status });
    });
  } else {
    throw invalidArgument('a plan needs a change');
  }
}

/** Refuses at once what the cluster would refuse, and what stands for nothing. */
function checkVersion(view: ReadView, { update_service: update }: PlanRequest): void {
  if (update === undefined) return;
  const stored = resolve(view, 'service', update.service_id);
  if (update.service_version !== null && update.service_version.index !== stored.meta?.version?.index) {
    throw invalidArgument('update out of sequence');
  }
}

/** Tasks that a new service is to have. */
function tasksAskedFor({ create_service: spec }: PlanRequest): number {
  return spec?.replicated?.replicas ?? spec?.replicated_job?.max_concurrent ?? 0;
}

function tooMany(count: number): Error {
  return invalidArgument(
    `a plan looks at ${PLAN_TASKS_MAX} tasks at the most, and there would be ${count}: plan a part of the change`,
  );
}

/** Makes plans, one at a time. */
class PlanMaker {
  readonly #options: PlannerOptions;
  #last: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(options: PlannerOptions) {
    this.#options = options;
  }

  async plan(request: PlanRequest): Promise<PlanResponse> {
    const busy = unavailable('another plan is being made on this manager; try again in a few seconds');
    if (this.#waiting >= WAITING_MAX) throw busy;
    const { clock } = this.#options;
    const before = this.#last;
    let isGivenUp = false;
    const mine = (async (): Promise<PlanResponse> => {
      await before;
      if (isGivenUp) throw busy;
      this.#waiting--;
      return await this.#make(request);
    })();
    this.#waiting++;
    this.#last = mine.catch(() => undefined);
    const patience = new AbortController();
    const late = clock.sleep(WAIT_MAX_MS, patience.signal).then(
      () => true,
      () => false,
    );
    const begun = before.then(() => false);
    if (await Promise.race([begun, late])) {
      isGivenUp = true;
      this.#waiting--;
      // Whoever comes next still waits its turn.
      mine.catch(() => undefined);
      throw busy;
    }
    patience.abort();
    return await mine;
  }

  async #make(request: PlanRequest): Promise<PlanResponse> {
    const { store, clock, random } = this.#options;
    const view = store.view();
    checkVersion(view, request);
    const count = view.list('task').length;
    const asked = tasksAskedFor(request);
    if (count + asked > PLAN_TASKS_MAX) throw tooMany(count + asked);
    const endMs = clock.monotonic() + WORK_MAX_MS;
    const scratch = await Scratch.begin(view, clock.now(), random);
    const check = (): void => {
      const tasks = scratch.store.view().list('task').length;
      if (tasks > PLAN_TASKS_MAX) throw tooMany(tasks);
      if (clock.monotonic() > endMs) throw new OutOfTime();
    };
    try {
      return await compare(scratch, request, check);
    } finally {
      await scratch.end();
    }
  }
}

/** Lets time pass; a note when it was not enough. */
async function pass(scratch: Scratch, ms: number, check: () => void): Promise<string[]> {
  try {
    await scratch.run(ms, check);
    return [];
  } catch (error) {
    if (!(error instanceof OutOfTime)) throw error;
    return [`the work on this plan was ended after ${WORK_MAX_MS / 1000} s; what comes later is not in it`];
  }
}

/** What of the services concerned a plan leaves out. */
function unforeseen(view: ReadView, services: readonly PlanResponse_OfService[]): string[] {
  const has = (label: string): boolean =>
    services.some(({ service_id: id }) => view.get('service', id)?.spec?.annotations?.labels[label] !== undefined);
  return [
    ...(has('shoal.autoscale.max') ? ['what autoscaling will do is not foreseen'] : []),
    ...(has(CRON_LABEL) ? ['runs that begin by the clock are left out'] : []),
  ];
}

async function compare(scratch: Scratch, request: PlanRequest, check: () => void): Promise<PlanResponse> {
  const notes = await pass(scratch, BEFORE_MS, check);
  const before = factsOf(scratch.store.view());
  const fromMs = scratch.clock.now();
  let lastMs = fromMs;
  const watch = scratch.store.watch();
  await apply(scratch, request);
  notes.push(
    ...(await pass(scratch, AFTER_MS, () => {
      if (watch.drain().length > 0) lastMs = scratch.clock.now();
      check();
    })),
  );
  watch.close();
  const view = scratch.store.view();
  const found = diffOf(before, factsOf(view), view);
  notes.push(...unforeseen(view, found.services));
  const plan = {
    ...found,
    duration_ms: Math.round(lastMs - fromMs),
    notes,
  };
  return PlanResponse.create({ ...plan, text: planText(PlanResponse.create(plan)) });
}

/**
 * Finds out what a change would do: a copy of the present state, the change through the Control service, and the real
 * duties on it until they come to rest. Nothing is written to the store. One plan at a time; it yields the event loop
 * after each write.
 */
export function createPlanner(options: PlannerOptions): Planner {
  const maker = new PlanMaker(options);
  return (request) => maker.plan(request);
}
