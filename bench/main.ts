import { parseArgs } from 'node:util';
import { errorMessage, invalidArgument } from '../base/index.ts';
import { PARTS, raftBench, type Part } from './raft/run.ts';
import { startRate } from './start-rate.ts';

const HELP = `Usage:  npm run bench -- start-rate [--runs 3] [--replicas 100] [--shoal-only]
        npm run bench -- raft [--runs 3] [--seconds 3] [--kills 100] [--only PART]... [--shoal-only]

start-rate  Starts of services on real daemons in namespaces of this machine, beside Docker's own engine where dockerd
            is installed.
raft        Consensus of three processes: loads, elections, memory, beside etcd where it is installed.
            PART is ${PARTS.join(', ')}; without --only all are measured.

Both need root. Results are stored in bench/results.
`;

function positive(text: string, flag: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1 || value > 5000) {
    throw invalidArgument(`--${flag} must be a whole number from 1 to 5000`);
  }
  return value;
}

function parts(names: readonly string[] | undefined): readonly Part[] {
  if (names === undefined) return PARTS;
  const known = PARTS.filter((part) => names.includes(part));
  if (known.length !== new Set(names).size) throw invalidArgument(`--only must be one of ${PARTS.join(', ')}`);
  return known;
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      runs: { type: 'string', default: '3' },
      replicas: { type: 'string', default: '100' },
      'shoal-only': { type: 'boolean', default: false },
      seconds: { type: 'string', default: '3' },
      kills: { type: 'string', default: '100' },
      only: { type: 'string', multiple: true },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help || positionals.length !== 1 || !['start-rate', 'raft'].includes(positionals[0] ?? '')) {
    process.stdout.write(HELP);
    process.exitCode = values.help ? 0 : 1;
    return;
  }
  const interrupted = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    // What was made is removed on the way out; a second signal does not cut that short.
    process.on(signal, () => interrupted.abort(new Error(`interrupted by ${signal}`)));
  }
  // `| head` is an end like any other.
  process.stdout.on('error', () => interrupted.abort(new Error('nobody reads the output')));
  if (positionals[0] === 'raft') {
    await raftBench({
      parts: parts(values.only),
      runs: positive(values.runs, 'runs'),
      seconds: positive(values.seconds, 'seconds'),
      kills: positive(values.kills, 'kills'),
      shoalOnly: values['shoal-only'],
      signal: interrupted.signal,
    });
    return;
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
