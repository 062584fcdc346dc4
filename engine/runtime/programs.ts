import { findProgram, RUNTIMES, type RuntimeFacts } from './probe.ts';

/** Programs of this host that containers run with. */
export interface HostPrograms {
  /** OCI runtimes that are installed, the one in use first. */
  runtimes: readonly { name: string; path: string }[];
  /** Name of the init program that containers get; empty when none is installed. */
  init: string;
}

/** Looks for the programs once. */
export async function findPrograms({ name, path }: Pick<RuntimeFacts, 'name' | 'path'>): Promise<HostPrograms> {
  const runtimes = [{ name, path }];
  for (const other of RUNTIMES) {
    const found = other === name ? undefined : await findProgram(other);
    if (found !== undefined) runtimes.push({ name: other, path: found });
  }
  for (const init of ['docker-init', 'tini']) {
    if ((await findProgram(init)) !== undefined) return { runtimes, init };
  }
  return { runtimes, init: '' };
}
