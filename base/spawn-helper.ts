import { isShoalError, errorMessage } from './errors.ts';
import { runProgram } from './spawn-run.ts';
import type { HelperMessage, HelperReply } from './spawn.ts';

/** Entry point of the helper process: runs what the daemon asks for; ends when the daemon's end of the channel closes. */
function reply(message: HelperReply): void {
  if (process.connected) process.send?.(message);
}

process.on('message', (message) => {
  const { id, request } = message as HelperMessage;
  runProgram(request).then(
    (result) => reply({ id, result }),
    (error: unknown) => reply({ id, error: errorMessage(error), missing: isShoalError(error, 'NotFound') }),
  );
});
process.on('disconnect', () => process.exit(0));
// The daemon decides when to end; a terminal's Ctrl-C must not take the helper away first.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => undefined);
