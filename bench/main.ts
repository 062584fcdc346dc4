import { parseArgs } from 'node:util';
import { errorMessage, invalidArgument } from '../base/index.ts';
import { startRate } from './start-rate.ts';

const HELP = `Usage:  npm run bench -- start-rate [--runs 3] [--replicas 100] [--shoal-only]

Measures loads on real daemons in namespaces of this machine; needs root. Docker's own engine is measured beside Shoal
where dockerd is installed. Results are stored in bench/results.
`;

function positive(text: string, flag: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1 || value > 5000) {
    throw invalidArgument(`--${flag} must be a whole number from 1 to 5000`);
  }
  return value;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string', default: '3' },
      replicas: { type: 'string', default: '100' },
      'shoal-only': { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help || positionals.length !== 1 || positionals[0] !== 'start-rate') {
    process.stdout.write(HELP);
    process.exitCode = values.help ? 0 : 1;
    return;
  }
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // What was made is removed on the way out; a second signal does not cut that short.
    process.on(signal, () => interrupted.abort(new Error(`interrupted by ${signal}`)));
  }
  await startRate({
    runs: positive(values.runs, 'runs'),
    replicas: positive(values.replicas, 'replicas'),
    shoalOnly: values['shoal-only'],
    signal: interrupted.signal,
  });
}

try {
  await main();
} catch (error) {
  console.error(errorMessage(error));
  process.exitCode = 1;
}
