import { createLogger } from '../../base/index.ts';
import { runWorld } from '../../raft/sim/runner.ts';
import { buildProgram } from './program.ts';
import { Totals } from './table.ts';
import { runSeed } from './worker.ts';

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

await runWorld({
  command: 'npm run sim -- --only cluster',
  logLevels: LEVELS,
  runHere: ({ seed, durationMs, onLine, logLevel }) => {
    const level = LEVELS.find((one) => one === logLevel);
    const log = level === undefined ? {} : { log: createLogger({ level, fd: 2 }) };
    return runSeed({ seed, durationMs }, { ...(onLine === undefined ? {} : { onLine }), ...log });
  },
  build: buildProgram,
  totals: () => new Totals(),
});
