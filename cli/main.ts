import { systemClock } from '../base/index.ts';
import type { Output } from './context.ts';
import { runProgram } from './program.ts';

function output(stream: NodeJS.WriteStream): Output {
  // A reader that went away (`| head`) ends the client without a word.
  stream.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  return {
    write: (text) => void stream.write(text),
    isTerminal: stream.isTTY,
    get columns() {
      return stream.columns ?? 0;
    },
    get rows() {
      return stream.rows ?? 0;
    },
    drained: () =>
      stream.writableNeedDrain ? new Promise<void>((resolve) => stream.once('drain', resolve)) : undefined,
  };
}

function onSignal(signal: NodeJS.Signals, run: () => void): () => void {
  process.on(signal, run);
  return () => process.off(signal, run);
}

process.exitCode = await runProgram(process.argv.slice(2), {
  out: output(process.stdout),
  err: output(process.stderr),
  input: process.stdin,
  clock: systemClock,
  env: process.env,
  onInterrupt: (run) => onSignal('SIGINT', run),
  onSignal,
});
