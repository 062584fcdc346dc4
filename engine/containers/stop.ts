import { conflict, isShoalError, ShoalError, unavailable } from '../../base/index.ts';
import { signalNumber, signalProcess } from '../runtime/process.ts';
import { stopRules } from './config.ts';
import type { Life } from './life.ts';
import { letGoOn } from './pause.ts';
import type { StoredContainer } from './store.ts';
import { comesWithin, type ExitStatus } from './waiter.ts';

const SIGKILL = 9;
/** After SIGKILL a process is gone at once, unless the kernel holds it in a disk wait. */
const KILL_WAIT_MS = 10_000;

export interface StopOptions {
  signal?: string;
  /** Time between the signal and SIGKILL, ms; negative is without limit. */
  graceMs?: number;
}

/** A user means the end: no policy brings it back. */
function endPolicy(stored: StoredContainer): void {
  stored.manuallyStopped = true;
  stored.policyEnded = true;
}

/** A user ends what waits to be started again: nothing is left to be killed. */
async function endRestarting({ record, restarts, waiters }: Life): Promise<void> {
  endPolicy(record.stored);
  restarts.cancel();
  await record.note();
  waiters.notify(record.status(), 'next-exit', 'not-running');
}

/** @throws ShoalError NotModified when it does not run; Unavailable when it survives SIGKILL. */
export async function stopContainer(unit: Life, options: StopOptions): Promise<void> {
  const { record } = unit;
  const { container, stored } = record;
  const rules = stopRules(container.config, record.imageConfig());
  const signal = signalNumber(options.signal || rules.signal);
  const graceMs = options.graceMs ?? rules.graceMs;
  // A start or end under way is let finish first.
  const running = await unit.lock.run(async () => {
    if (container.state === 'restarting') {
      await endRestarting(unit);
      return undefined;
    }
    if (!record.running) throw new ShoalError('NotModified', `container ${container.id} is not running`);
    endPolicy(stored);
    await record.note();
    return { exit: unit.waiters.nextExit() };
  });
  if (running !== undefined) {
    if (container.config.network.mode === 'sandbox') await drain(unit);
    record.event('kill', { signal: String(signal) });
    signalProcess(stored.monitored?.init, signal);
    await letGoOn(unit);
    const ended = graceMs === 0 ? false : await comesWithin(running.exit, graceMs, record.parts.clock);
    if (!ended && record.running) {
      record.event('kill', { signal: String(SIGKILL) });
      signalProcess(stored.monitored?.init, SIGKILL);
      await killed(unit, running.exit);
    }
  }
  record.event('stop');
}

async function drain({ record }: Life): Promise<void> {
  const { id } = record.container;
  await record.parts.networks.drainSandbox(id).catch((error: unknown) => {
    record.parts.log.warn('a container could not be taken out of its networks before it stops', { id, error });
  });
}

/** Waits for the end of what got SIGKILL. @throws ShoalError Unavailable */
async function killed(unit: Life, exit: Promise<ExitStatus>): Promise<void> {
  const { record } = unit;
  if (await comesWithin(exit, KILL_WAIT_MS, record.parts.clock)) return;
  // The exit file may be there with its notice lost.
  await unit.check();
  if (!record.running) return;
  throw unavailable(`container ${record.container.id} does not end after SIGKILL: the kernel holds it; try again`);
}

/** Whether a user means the end by this signal: SIGKILL, its own stop signal, or any when it has none (as dockerd). */
function means(unit: Life, signal: number): boolean {
  const { config } = unit.record.container;
  const own = config.stopSignal || unit.record.imageConfig().StopSignal;
  return signal === SIGKILL || !own || signal === signalNumber(own);
}

/**
 * Sends a signal. One that means the end lets every restart policy rest, any other one only `unless-stopped`, as
 * dockerd does. With SIGKILL it has ended when this returns.
 * @throws ShoalError Conflict when it does not run, InvalidArgument for an unknown signal.
 */
export async function killContainer(unit: Life, signalText: string): Promise<void> {
  const { record } = unit;
  const { container, stored } = record;
  const signal = signalNumber(signalText === '' ? 'SIGKILL' : signalText);
  const ending = means(unit, signal);
  const running = await unit.lock.run(async () => {
    if (container.state === 'restarting') {
      if (ending) await endRestarting(unit);
      else stored.manuallyStopped = true;
      record.event('kill', { signal: String(signal) });
      return undefined;
    }
    const next = { exit: unit.waiters.nextExit() };
    const sent = record.running && signalProcess(stored.monitored?.init, signal);
    if (!sent) throw conflict(`container ${container.id} is not running`);
    record.event('kill', { signal: String(signal) });
    if (ending) endPolicy(stored);
    stored.manuallyStopped = true;
    await record.note();
    return next;
  });
  if (ending) await letGoOn(unit);
  if (signal === SIGKILL && running !== undefined) await killed(unit, running.exit);
}

/** Ends a container that is to be removed, however it stands. @throws ShoalError Unavailable */
export async function endForRemoval(unit: Life): Promise<void> {
  const { record } = unit;
  const exit = unit.waiters.nextExit();
  await killContainer(unit, 'SIGKILL').catch((error: unknown) => {
    // It is at its end already; only its exit file is still to come.
    if (!isShoalError(error, 'Conflict')) throw error;
  });
  if (record.running) await killed(unit, exit);
}
