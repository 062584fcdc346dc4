import { conflict, ShoalError, unavailable } from '../../base/index.ts';
import { signalNumber, signalProcess } from '../runtime/process.ts';
import { stopRules } from './config.ts';
import type { Limiter } from './limiter.ts';
import type { ContainerRecord } from './record.ts';
import type { Restarts } from './restarts.ts';
import { comesWithin, type ExitStatus, type Waiters } from './waiter.ts';

const SIGKILL = 9;
/** After SIGKILL a process is gone at once, unless the kernel holds it in a disk wait. */
export const KILL_WAIT_MS = 10_000;
/** Signals by which a user means the end: the restart policy then rests. */
const ENDING_SIGNALS = ['SIGKILL', 'SIGTERM', 'SIGINT', 'SIGQUIT'].map(signalNumber);

export interface StopOptions {
  signal?: string;
  /** Time between the signal and SIGKILL, ms; negative is without limit. */
  graceMs?: number;
}

/** The parts of one container's life, as the steps of it see them. */
export interface Life {
  readonly record: ContainerRecord;
  readonly lock: Limiter;
  readonly waiters: Waiters;
  readonly restarts: Restarts;
  /** Looks whether it has ended without a notice. */
  check(): Promise<void>;
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
      stored.manuallyStopped = true;
      unit.restarts.cancel();
      await record.save();
      return undefined;
    }
    if (!record.running) throw new ShoalError('NotModified', `container ${container.id} is not running`);
    stored.manuallyStopped = true;
    await record.save();
    return { exit: unit.waiters.nextExit() };
  });
  if (running === undefined) return;
  if (container.config.network.mode === 'sandbox') await drain(unit);
  record.event('kill', { signal: String(signal) });
  signalProcess(stored.monitored?.init, signal);
  const ended = graceMs === 0 ? false : await comesWithin(running.exit, graceMs, record.parts.clock);
  if (!ended) await killAndWait(unit, running.exit);
  record.event('stop');
}

async function drain({ record }: Life): Promise<void> {
  const { id } = record.container;
  await record.parts.networks.drainSandbox(id).catch((error: unknown) => {
    record.parts.log.warn('a container could not be taken out of its networks before it stops', { id, error });
  });
}

async function killAndWait(unit: Life, exit: Promise<ExitStatus>): Promise<void> {
  const { record } = unit;
  signalProcess(record.stored.monitored?.init, SIGKILL);
  if (await comesWithin(exit, KILL_WAIT_MS, record.parts.clock)) return;
  // The exit file may be there with its notice lost.
  await unit.check();
  if (!record.running) return;
  throw unavailable(`container ${record.container.id} does not end after SIGKILL: the kernel holds it; try again`);
}

/** @throws ShoalError Conflict when it does not run, InvalidArgument for an unknown signal. */
export async function killContainer(unit: Life, signalText: string): Promise<void> {
  const { record } = unit;
  const { stored } = record;
  const signal = signalNumber(signalText === '' ? 'SIGKILL' : signalText);
  await unit.lock.run(async () => {
    const { id, config } = record.container;
    const sent = record.running && signalProcess(stored.monitored?.init, signal);
    if (!sent) throw conflict(`cannot kill container: ${config.name}: container ${id} is not running`);
    const ending = signal === signalNumber(stopRules(config, record.imageConfig()).signal);
    if (ending || ENDING_SIGNALS.includes(signal)) stored.manuallyStopped = true;
    await record.save();
  });
  record.event('kill', { signal: String(signal) });
}
