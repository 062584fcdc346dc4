import { invalidArgument, unreachable } from '../base/index.ts';
import { NodeRole, type Node } from '../proto/index.ts';
import { addressMatches } from './address.ts';
import { normaliseArchitecture, normaliseOs } from './platform.ts';

/** `key == value` or `key != value` (docs.docker.com/engine/swarm/services, "Placement constraints"). */
export interface Constraint {
  key: string;
  operator: '==' | '!=';
  value: string;
}

const OPERATORS = ['==', '!='] as const;
const KEY_PATTERN = /^[a-z_][a-z0-9\-_.]+$/i;
const VALUE_PATTERN = /^[a-z0-9:\-_\s.*()?+[\]\\^$|/]+$/i;

const NODE_LABELS = 'node.labels.';
const ENGINE_LABELS = 'engine.labels.';

function parseOne(text: string): Constraint {
  const operator = OPERATORS.find((candidate) => text.includes(candidate));
  if (operator === undefined) throw invalidArgument(`constraint expected one operator from ${OPERATORS.join(', ')}`);
  const at = text.indexOf(operator);
  const key = text.slice(0, at).trim();
  const value = text.slice(at + operator.length).trim();
  if (!KEY_PATTERN.test(key)) throw invalidArgument(`key '${key}' is invalid`);
  if (!VALUE_PATTERN.test(value)) throw invalidArgument(`value '${value}' is invalid`);
  return { key, operator, value };
}

/** @throws ShoalError InvalidArgument with Docker's words when one of them is malformed. */
export function parseConstraints(texts: readonly string[]): Constraint[] {
  return texts.map(parseOne);
}

/** The value behind a `node.labels.x` or `engine.labels.x` key (missing labels are ''); undefined for other keys. */
export function labelValue(node: Node, key: string): string | undefined {
  const lower = key.toLowerCase();
  if (lower.startsWith(NODE_LABELS)) return node.spec?.annotations?.labels[key.slice(NODE_LABELS.length)] ?? '';
  if (lower.startsWith(ENGINE_LABELS)) return node.description?.engine?.labels[key.slice(ENGINE_LABELS.length)] ?? '';
  return undefined;
}

/** What a key stands for on this node: every spelling that counts as equal; undefined for an unknown key. */
function valuesOf(node: Node, key: string): string[] | undefined {
  const label = labelValue(node, key);
  if (label !== undefined) return [label];
  const platform = node.description?.platform;
  switch (key.toLowerCase()) {
    case 'node.id':
      return [node.id];
    case 'node.hostname':
      return [node.description?.hostname ?? ''];
    case 'node.role':
      return [node.role === NodeRole.MANAGER ? 'manager' : 'worker'];
    case 'node.platform.os':
      return [platform?.os ?? '', normaliseOs(platform?.os ?? '')];
    case 'node.platform.arch':
      return [platform?.architecture ?? '', normaliseArchitecture(platform?.architecture ?? '')];
    default:
      return undefined;
  }
}

function isEqual(constraint: Constraint, node: Node): boolean | undefined {
  if (constraint.key.toLowerCase() === 'node.ip') return addressMatches(constraint.value, node.status?.addr ?? '');
  const wanted = constraint.value.toLowerCase();
  return valuesOf(node, constraint.key)?.some((value) => value.toLowerCase() === wanted);
}

/** Whether a node satisfies every constraint. An unknown key, or a malformed address, is satisfied by no node. */
export function nodeMatches(node: Node, constraints: readonly Constraint[]): boolean {
  return constraints.every((constraint) => {
    const equal = isEqual(constraint, node);
    if (equal === undefined) return false;
    switch (constraint.operator) {
      case '==':
        return equal;
      case '!=':
        return !equal;
      default:
        return unreachable(constraint.operator);
    }
  });
}
