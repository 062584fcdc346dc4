/** Entry of the resolvers' thread: sockets and zones of all sandboxes of this host. See resolver-thread.ts. */
import { parentPort } from 'node:worker_threads';
import {
  DatagramBatch,
  errorMessage,
  must,
  systemClock,
  systemRandom,
  unreachable,
  type Logger,
  type LogLevel,
} from '../../base/index.ts';
import { createForwarder } from './forward.ts';
import { NameTables } from './name-tables.ts';
import { Resolver, type ResolverFacts } from './server.ts';
import type { FromThread, SandboxView, ToThread } from './thread-protocol.ts';
import { UDP_BYTES_MAX } from './codec.ts';

const BATCH_MAX = 64;
/** A resolver whose sockets failed is opened again after this time, ms: who ends them on purpose shall not keep us busy. */
const REOPEN_MS = 200;
/** How often sockets are looked at that may have been ended in silence, ms; it costs some microseconds each. */
const CHECK_MS = 1000;

const port = must(parentPort, 'the resolvers run on a thread of their own');
const tell = (message: FromThread): void => port.postMessage(message);

/** Log lines go to the main thread, which knows where to. */
function threadLogger(): Logger {
  const write = (level: LogLevel) => (message: string, fields?: Record<string, unknown>) => {
    const texts = Object.entries(fields ?? {}).map(([key, value]) => [key, String(value)]);
    tell({ kind: 'log', level, message, fields: Object.fromEntries(texts) as Record<string, string> });
  };
  const log: Logger = {
    debug: write('debug'),
    info: write('info'),
    warn: write('warn'),
    error: write('error'),
    with: () => log,
  };
  return log;
}

const log = threadLogger();
const tables = new NameTables();
const resolvers = new Map<string, Resolver>();
/** How each was opened, with what it sees by now. */
const opened = new Map<string, Extract<ToThread, { kind: 'open' }>>();
const incoming = new DatagramBatch(BATCH_MAX, UDP_BYTES_MAX);
const outgoing = new DatagramBatch(BATCH_MAX, UDP_BYTES_MAX);
const forwarder = createForwarder({ clock: systemClock, random: systemRandom });

function factsOf(view: SandboxView): ResolverFacts {
  return { view: tables.view(view.zones), upstream: view.upstream, keepsDotless: view.keepsDotless };
}

function open(message: Extract<ToThread, { kind: 'open' }>): void {
  const { id, namespace } = message;
  resolvers.get(id)?.close();
  resolvers.delete(id);
  try {
    const onBroken = (): void => reopen(id);
    const options = { id, namespace, ...factsOf(message.view), forwarder, incoming, outgoing, log, onBroken };
    const resolver = new Resolver(options, message.port, systemRandom);
    resolvers.set(id, resolver);
    opened.set(id, { ...message, port: resolver.port });
    tell({ kind: 'opened', id, port: resolver.port });
  } catch (error) {
    tell({ kind: 'failed', id, error: errorMessage(error) });
  }
}

/** Opens a resolver again that has closed itself, unless it was closed or opened meanwhile. */
function reopen(id: string): void {
  const broken = resolvers.get(id);
  systemClock.after(REOPEN_MS, () => {
    const message = opened.get(id);
    if (message !== undefined && resolvers.get(id) === broken) open(message);
  });
}

function forgetViews(): void {
  tables.keepViews(new Set([...resolvers.values()].map((resolver) => resolver.view)));
}

function checkAll(): void {
  for (const resolver of resolvers.values()) resolver.check();
  systemClock.after(CHECK_MS, checkAll);
}
systemClock.after(CHECK_MS, checkAll);

port.on('message', (message: ToThread) => {
  switch (message.kind) {
    case 'open':
      return open(message);
    case 'view': {
      resolvers.get(message.id)?.update(factsOf(message.view));
      const last = opened.get(message.id);
      if (last !== undefined) last.view = message.view;
      return forgetViews();
    }
    case 'close':
      resolvers.get(message.id)?.close();
      resolvers.delete(message.id);
      opened.delete(message.id);
      return forgetViews();
    case 'zone':
    case 'zone-change':
    case 'zone-gone':
    case 'member':
    case 'member-gone':
      return tables.apply(message);
    default:
      return unreachable(message);
  }
});
