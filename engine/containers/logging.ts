import { invalidArgument, ShoalError } from '../../base/index.ts';
import type { LogHold } from '../logs/keeper.ts';
import { attributeText, logAttributes, logPolicy, unreadable, type LogSubject } from '../logs/policy.ts';
import { readLogBlocks } from '../logs/reader.ts';
import type { Container, LogLine, LogQuery } from '../types.ts';
import type { Parts } from './parts.ts';
import type { WaitCondition } from './waiter.ts';

/** What reading a log needs of its container. */
interface LoggingUnit {
  readonly container: Container;
  readonly running: boolean;
  wait(condition: WaitCondition, signal: AbortSignal): Promise<unknown>;
}

/**
 * Looks after a container's log while it runs. @param fresh its monitor does not run yet.
 * @throws ShoalError FailedPrecondition when the log is to be sent and nobody takes it (only a fresh one).
 */
export async function beginLog(parts: Parts, container: Container, fresh: boolean): Promise<void> {
  const { id, logPath, config } = container;
  if (logPath === '') return;
  const policy = logPolicy(config.logDriver);
  try {
    parts.logs.begin(logPath, policy, fresh, () => parts.runtime.reopenLogs(id));
  } catch (error) {
    // conmon holds the bound alone, with one file.
    parts.log.warn('the log of a container is not rotated by the daemon', { id, error });
  }
  const hold = (): LogHold => parts.logs.hold(logPath, policy);
  await parts.shippers.begin({ path: logPath, driver: config.logDriver, subject: logSubject(container), hold }, fresh);
}

/** The container has ended. */
export async function endLog(parts: Parts, { logPath }: Container): Promise<void> {
  await parts.logs.end(logPath);
  await parts.shippers.end(logPath);
}

/** What tags and details of a container's log are made of. */
export function logSubject({ id, imageId, config }: Container): LogSubject {
  return { id, name: config.name, imageId, imageName: config.image, labels: config.labels, env: config.env };
}

export function detailsOf(container: Container): string {
  return attributeText(logAttributes(container.config.logDriver, logSubject(container)));
}

/**
 * The log's lines by a query, many at a time.
 * @throws ShoalError InvalidArgument without a stream; Unimplemented when the container keeps no log, in Docker's words.
 */
export function logBlocksOf(
  parts: Parts,
  unit: LoggingUnit,
  query: LogQuery,
  signal: AbortSignal,
): AsyncIterable<LogLine[]> {
  if (!query.stdout && !query.stderr) throw invalidArgument('You must choose at least one stream');
  const { logPath, config } = unit.container;
  if (logPath === '' || unreadable(config.logDriver)) {
    throw new ShoalError('Unimplemented', 'configured logging driver does not support reading');
  }
  const source = {
    path: logPath,
    live: (): boolean => unit.running || unit.container.state === 'restarting',
    nextEnd: (ended: AbortSignal) => unit.wait('next-exit', ended),
    hold: () => parts.logs.hold(logPath, logPolicy(config.logDriver)),
  };
  return readLogBlocks(source, query, parts.clock, signal);
}
