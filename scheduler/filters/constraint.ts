import { isShoalError } from '../../base/index.ts';
import { nodeMatches, parseConstraints, type Constraint } from '../constraint.ts';
import { nodes, type FilterFactory } from './filter.ts';

/** Constraints of a stored task; undefined when one cannot be read (then no node satisfies them). */
function parsed(texts: readonly string[]): Constraint[] | undefined {
  try {
    return parseConstraints(texts);
  } catch (error) {
    if (isShoalError(error, 'InvalidArgument')) return undefined;
    throw error;
  }
}

/** The node satisfies the placement constraints. */
export const constraintFilter: FilterFactory = (task) => {
  const texts = task.spec?.placement?.constraints ?? [];
  if (texts.length === 0) return undefined;
  const constraints = parsed(texts);
  return {
    check: ({ node }) => constraints !== undefined && nodeMatches(node, constraints),
    explain: (count) => `scheduling constraints not satisfied on ${nodes(count)}`,
  };
};
