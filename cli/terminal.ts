/** The client's own terminal: raw mode that is taken back on every way out, and its size. */
import { spawnSync } from 'node:child_process';
import type { Client } from './client.ts';
import { say, type Context } from './context.ts';

/** Signals whose default action ends the client without giving the terminal back. */
const ENDING_SIGNALS: readonly NodeJS.Signals[] = ['SIGHUP', 'SIGTERM', 'SIGQUIT', 'SIGINT'];
/** The process may not have its terminal yet when the first size is sent. */
const RESIZE_RETRIES = 10;
const RESIZE_RETRY_STEP_MS = 10;

/**
 * Puts the terminal of standard input into raw mode. Returns what takes it back; it is also taken back when the client
 * ends by an error or a signal. Nothing happens when input is no terminal.
 */
export function rawTerminal(context: Context): () => void {
  const { input } = context;
  if (!input.isTTY) return () => undefined;
  input.setRawMode(true);
  // Node leaves the terminal to put a carriage return before each line feed; what comes from the process has its own.
  spawnSync('stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'] });
  let raw = true;
  const restore = (): void => {
    if (!raw) return;
    raw = false;
    process.off('exit', restore);
    for (const stop of stops) stop();
    input.setRawMode(false);
  };
  const stops = ENDING_SIGNALS.map((signal) =>
    context.onSignal(signal, () => {
      // Others who listen (signals for the container) decide themselves what it means.
      if (process.listenerCount(signal) > 1) return;
      restore();
      process.kill(process.pid, signal);
    }),
  );
  process.on('exit', restore);
  return restore;
}

/** Refuses a terminal for the process when the client's input is none. @throws Error in docker's words */
export function checkTerminal(context: Context, attachesInput: boolean, wantsTerminal: boolean): void {
  if (attachesInput && wantsTerminal && !context.input.isTTY) throw new Error('the input device is not a TTY');
}

/** Rows and columns of the terminal that output goes to; zeros when it is none. */
export const consoleSize = (context: Context): [number, number] =>
  context.out.isTerminal ? [context.out.rows ?? 0, context.out.columns] : [0, 0];

/**
 * Tells the daemon the size of the terminal, now and whenever it changes. `path` is that of the container or exec.
 * @param nudge send another size first, so that a program that is there already draws itself anew
 * @returns what ends the watch
 */
export function followSize(context: Context, path: string, nudge = false): () => void {
  const { client, clock } = context;
  const resize = (extra = 0): Promise<void> => sendSize(client, path, consoleSize(context), extra);
  const first = async (): Promise<void> => {
    if (nudge) await resize(1).catch(() => undefined);
    for (let attempt = 0; ; attempt++) {
      try {
        return await resize();
      } catch {
        if (attempt === RESIZE_RETRIES) return say(context.err, 'failed to resize tty, using default size');
        await clock.sleep((attempt + 1) * RESIZE_RETRY_STEP_MS);
      }
    }
  };
  void first();
  // A size that cannot be told (the process has ended) matters to nobody.
  return context.onSignal('SIGWINCH', () => void resize().catch(() => undefined));
}

async function sendSize(
  client: Client,
  path: string,
  [rows, columns]: readonly [number, number],
  extra: number,
): Promise<void> {
  if (rows === 0 && columns === 0) return;
  await client.post(`${path}/resize`, undefined, { h: rows + extra, w: columns + extra });
}
