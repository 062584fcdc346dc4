import { relative } from 'node:path';
import { BaseSequencer, type TestSequencerConstructor, type TestSpecification } from 'vitest/node';

/**
 * An order of test files in which those that take longest begin first, so that a run does not end with one long file
 * alone. Files that are not named keep vitest's own order, after those that are.
 * @param seconds what a file took once, by its path from the root of the project; only the order of magnitude counts
 */
export function longestFirst(seconds: Readonly<Record<string, number>>): TestSequencerConstructor {
  return class extends BaseSequencer {
    override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
      const known = (file: TestSpecification): number => seconds[relative(this.ctx.config.root, file.moduleId)] ?? 0;
      const projects = new Map<string, TestSpecification[]>();
      // Projects stay apart: vitest has put them in an order of its own.
      for (const file of await super.sort(files)) {
        projects.set(file.project.name, [...(projects.get(file.project.name) ?? []), file]);
      }
      return [...projects.values()].flatMap((own) => own.sort((a, b) => known(b) - known(a)));
    }
  };
}
