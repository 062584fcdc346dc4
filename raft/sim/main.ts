import { join } from 'node:path';
import { storePath, usesStore } from './machine.ts';
import { buildProgram } from './program.ts';
import { ROOT, runWorld } from './runner.ts';
import { Totals } from './table.ts';
import { runSeed } from './worker.ts';

await runWorld({
  command: 'npm run sim -- --only raft',
  logLevels: [],
  runHere: ({ seed, durationMs, onLine }) => {
    const store = usesStore(seed) ? storePath(ROOT) : undefined;
    const machine = store === undefined ? {} : { machine: join(ROOT, store) };
    return runSeed({ seed, durationMs, ...machine }, onLine);
  },
  build: buildProgram,
  totals: () => new Totals(),
});
