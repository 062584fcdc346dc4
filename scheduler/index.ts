export { nodeMatches, parseConstraints, type Constraint } from './constraint.ts';
