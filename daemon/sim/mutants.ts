import { huntAll } from '../../raft/sim/mutate.ts';
import { MUTANTS } from './mutant-list.ts';
import { buildProgram, SOURCES } from './program.ts';

await huntAll({ sources: SOURCES, mutants: MUTANTS, build: buildProgram, seeds: 60, minutes: 5 });
