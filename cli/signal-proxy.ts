import { segment } from './client.ts';
import { say, type Context } from './context.ts';

/**
 * Signals that an attached client passes on. Not SIGWINCH, which would stop some servers: a terminal's size travels
 * by another way.
 */
const PROXIED: readonly NodeJS.Signals[] = [
  ...(['SIGHUP', 'SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGUSR1', 'SIGUSR2', 'SIGALRM', 'SIGCONT'] as const),
  ...(['SIGTSTP', 'SIGTTIN', 'SIGTTOU', 'SIGIO', 'SIGPWR', 'SIGSYS', 'SIGTRAP', 'SIGXCPU', 'SIGXFSZ'] as const),
];
/** So many of SIGINT or SIGTERM end the client whatever the process does with them. */
const FORCED_AFTER = 3;

/** Passes signals on to a container's process. @returns what ends it */
export function proxySignals(context: Context, container: string): () => void {
  let ending = 0;
  const stops = PROXIED.map((signal) =>
    context.onSignal(signal, () => {
      if ((signal === 'SIGINT' || signal === 'SIGTERM') && ++ending === FORCED_AFTER) {
        say(context.err, `\ngot ${FORCED_AFTER} SIGTERM/SIGINTs, forcefully exiting`);
        process.exit(1);
      }
      const name = signal.slice('SIG'.length);
      // A process that has ended meanwhile needs no signal.
      context.client.post(`/containers/${segment(container)}/kill`, undefined, { signal: name }).catch(() => undefined);
    }),
  );
  return () => {
    for (const stop of stops) stop();
  };
}
