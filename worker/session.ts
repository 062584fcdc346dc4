import { isShoalError, ShoalError, type Clock, type Logger } from '../base/index.ts';
import {
  NodeDescription,
  durationToMs,
  type AssignmentsMessage,
  type SessionMessage,
  type SubscriptionMessage,
  type TaskUsage,
} from '../proto/index.ts';
import type { AgentConnection } from './connection.ts';
import { followNetworkChecks, NumberedSummons, type NetworkChecksOptions } from './network-checks.ts';
import { ReportChannel } from './report-channel.ts';
import type { Reporter } from './reporter.ts';

/**
 * Version of Shoal's own extensions of the agents' protocol. 2: heartbeats tell what tasks use. 3: tables of networks
 * come as deltas too.
 */
export const SHOAL_VERSION = 3;
/** Bounds of the wait for a heartbeat's answer, ms; between them it is twice the period. */
const HEARTBEAT_TIMEOUT_MIN_MS = 2000;
const HEARTBEAT_TIMEOUT_MAX_MS = 5000;
/** Bounds of the heartbeat period a manager may ask for, ms. */
const PERIOD_MIN_MS = 50;
const PERIOD_MAX_MS = 60_000;
const PERIOD_DEFAULT_MS = 1000;
/** Longest wait for a connection: a host that is gone says nothing, a slow manager's kernel still accepts, ms. */
const CONNECT_TIMEOUT_MS = 2000;
/** Longest wait for the answer to a report, ms. */
const REPORT_TIMEOUT_MS = 30_000;
/** Time between two looks at what this host is and has, ms. */
const DESCRIBE_INTERVAL_MS = 20_000;

/** Ends a session that is to be opened again at once, under the same id: the host's description changed. */
export class SessionReopen extends Error {
  override readonly name = 'SessionReopen';
}

export interface SessionHandlers {
  describe: () => Promise<NodeDescription>;
  /** The first message of a session: it stands from here on. */
  onEstablished: (sessionId: string) => void;
  onMessage: (message: SessionMessage) => void;
  beginAssignments: () => void;
  /** @throws when the stream has a gap. */
  onAssignments: (message: AssignmentsMessage) => Promise<void>;
  onSubscription: (message: SubscriptionMessage, signal: AbortSignal) => void;
  /** Readings for the next heartbeat; often none. */
  usage: (signal: AbortSignal) => TaskUsage[];
  checkNetworks?: NetworkChecksOptions['check'];
}

export interface SessionOptions {
  connection: AgentConnection;
  /** Id of the session to come back to; empty for a new one. */
  sessionId: string;
  /** Longest wait for the first message, ms. */
  openTimeoutMs: number;
  reporter: Reporter;
  handlers: SessionHandlers;
  clock: Clock;
  log: Logger;
}

/**
 * Runs one session on one connection (swarmkit.md §1.6–1.8): the session itself, then heartbeats, assignments, log
 * subscriptions and reports side by side. Whichever ends first ends them all.
 * @throws always: what ended the session. Returns only when `signal` aborts.
 */
export async function runSession(options: SessionOptions, signal: AbortSignal): Promise<void> {
  const { connection, handlers, clock } = options;
  const controller = new AbortController();
  const own = AbortSignal.any([signal, controller.signal]);
  const opening = clock.after(options.openTimeoutMs, () => {
    controller.abort(new ShoalError('Unavailable', `the manager did not answer within ${options.openTimeoutMs} ms`));
  });
  const connecting = clock.after(CONNECT_TIMEOUT_MS, () => {
    if (connection.isConnected?.() !== false) return;
    controller.abort(new ShoalError('Unavailable', `no connection to the manager within ${CONNECT_TIMEOUT_MS} ms`));
  });
  const loops: Promise<void>[] = [];
  try {
    const description = await handlers.describe();
    const request = { description, session_id: options.sessionId, shoal_version: SHOAL_VERSION };
    const stream = connection.session(request, own)[Symbol.asyncIterator]();
    const first = await stream.next();
    opening.cancel();
    connecting.cancel();
    if (first.done === true) throw own.aborted ? (own.reason as Error) : ended('session');
    const sessionId = first.value.session_id;
    handlers.onEstablished(sessionId);
    const summons = new NumberedSummons();
    const onMessage = (message: SessionMessage): void => {
      summons.take(message.network_checks);
      handlers.onMessage(message);
    };
    onMessage(first.value);
    const channel = new ReportChannel({ connection, sessionId, clock, log: options.log }, own);
    loops.push(
      followSession(stream, onMessage),
      heartbeats(options, channel, own),
      followAssignments(options, sessionId, own),
      followSubscriptions(options, own),
      followNetworkChecks({ connection, clock, log: options.log, summons, check: handlers.checkNetworks }, own),
      options.reporter.run((updates) => channel.update(updates, REPORT_TIMEOUT_MS), own),
      watchDescription(options, description, own),
    );
    await Promise.race(loops);
    if (!own.aborted) throw ended('session');
  } catch (error) {
    if (!signal.aborted) throw controller.signal.aborted ? controller.signal.reason : error;
  } finally {
    opening.cancel();
    connecting.cancel();
    controller.abort(new Error('the session has ended'));
    await Promise.allSettled(loops);
  }
}

const ended = (what: string): ShoalError => new ShoalError('Unavailable', `the manager has ended the ${what}`);

async function followSession(
  stream: AsyncIterator<SessionMessage>,
  onMessage: SessionHandlers['onMessage'],
): Promise<void> {
  for (;;) {
    const next = await stream.next();
    if (next.done === true) return;
    onMessage(next.value);
  }
}

async function heartbeats(options: SessionOptions, channel: ReportChannel, signal: AbortSignal): Promise<void> {
  let periodMs = PERIOD_DEFAULT_MS;
  while (!signal.aborted) {
    const timeoutMs = Math.min(HEARTBEAT_TIMEOUT_MAX_MS, Math.max(HEARTBEAT_TIMEOUT_MIN_MS, periodMs * 2));
    const period = await channel.heartbeat(options.handlers.usage(signal), timeoutMs);
    periodMs = Math.min(PERIOD_MAX_MS, Math.max(PERIOD_MIN_MS, durationToMs(period, PERIOD_DEFAULT_MS)));
    await options.clock.sleep(periodMs, signal);
  }
}

async function followAssignments(options: SessionOptions, sessionId: string, signal: AbortSignal): Promise<void> {
  const { connection, handlers } = options;
  handlers.beginAssignments();
  for await (const message of connection.assignments({ session_id: sessionId }, signal)) {
    await handlers.onAssignments(message);
  }
}

async function followSubscriptions(options: SessionOptions, signal: AbortSignal): Promise<void> {
  try {
    for await (const message of options.connection.listenSubscriptions(signal)) {
      options.handlers.onSubscription(message, signal);
    }
  } catch (error) {
    if (!isShoalError(error, 'Unimplemented')) throw error;
    options.log.info('the manager does not collect logs');
    // The session goes on without logs.
    await untilAborted(signal);
  }
}

async function watchDescription(options: SessionOptions, sent: NodeDescription, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    await options.clock.sleep(DESCRIBE_INTERVAL_MS, signal);
    const now = await options.handlers.describe();
    if (!NodeDescription.equal(sent, now)) throw new SessionReopen('the description of this node has changed');
  }
}

function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    else signal.addEventListener('abort', () => resolve(), { once: true });
  });
}
