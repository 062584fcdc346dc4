import { MUTANTS } from './mutant-list.ts';
import { huntAll } from './mutate.ts';
import { buildProgram, SOURCES } from './program.ts';

await huntAll({ sources: SOURCES, mutants: MUTANTS, build: buildProgram, seeds: 200, minutes: 30 });
