import type { Node, Service } from '../../proto/index.ts';
import { nodeMatches, parseConstraints } from '../../scheduler/index.ts';

/**
 * Whether a node satisfies the constraints of a service as it is now. Constraints that cannot be read are satisfied by
 * no node: control refuses them, so they come from a newer version of the program.
 */
export function satisfiesPlacement(service: Service, node: Node): boolean {
  return satisfiesConstraints(service.spec?.task?.placement?.constraints ?? [], node);
}

export function satisfiesConstraints(texts: readonly string[], node: Node): boolean {
  if (texts.length === 0) return true;
  try {
    return nodeMatches(node, parseConstraints(texts));
  } catch {
    return false;
  }
}
