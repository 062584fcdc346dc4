import { isShoalError } from '../../base/index.ts';
import { nodeMatches, parseConstraints, type Constraint } from '../constraint.ts';
import type { NodeView } from '../node-view.ts';
import { NEVER, nodes, type FilterFactory, type Lack } from './filter.ts';

/** Constraints of a stored task; undefined when one cannot be read (then no node satisfies them). */
function parsed(texts: readonly string[]): Constraint[] | undefined {
  try {
    return parseConstraints(texts);
  } catch (error) {
    if (isShoalError(error, 'InvalidArgument')) return undefined;
    throw error;
  }
}

const LABEL_KEY = /^node\.labels\.(.+)$/i;

function unmetOn({ node }: NodeView, constraints: readonly Constraint[]): Constraint[] {
  return constraints.filter((one) => !nodeMatches(node, [one]));
}

function lackOf(constraints: readonly Constraint[], view: NodeView): Lack {
  const unmet = unmetOn(view, constraints);
  const texts = unmet.map(({ key, operator, value }) => `${key} ${operator} ${value}`);
  const label = unmet.length === 1 ? LABEL_KEY.exec(unmet[0]?.key ?? '')?.[1] : undefined;
  const option =
    label !== undefined && unmet[0]?.operator === '=='
      ? `give it the label (node update --label-add ${label}=${unmet[0].value} ${view.name})`
      : 'add a node that satisfies it';
  return {
    lacks: `does not satisfy ${texts.length === 1 ? 'the constraint' : 'the constraints'} ${texts.join(', ')}`,
    fix: `${option}, or take the constraint away (--constraint-rm)`,
  };
}

/** The node satisfies the placement constraints. */
export const constraintFilter: FilterFactory = ({ task }) => {
  const texts = task.spec?.placement?.constraints ?? [];
  if (texts.length === 0) return undefined;
  const constraints = parsed(texts);
  return {
    name: 'constraint',
    check: ({ node }) => constraints !== undefined && nodeMatches(node, constraints),
    explain: (count) => `scheduling constraints not satisfied on ${nodes(count)}`,
    measure: (view) => (constraints === undefined ? NEVER : unmetOn(view, constraints).length),
    lack: (view) =>
      constraints === undefined
        ? { lacks: 'cannot read the constraints', fix: 'correct the constraints' }
        : lackOf(constraints, view),
  };
};
