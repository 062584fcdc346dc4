/** What the kernel has, compared with what was planned, in words. Pure. */
import { unreachable } from '../../base/index.ts';
import type { Op } from '../kernel/ops.ts';
import type { Items } from '../plan.ts';
import { describeOp } from '../reconcile/compare.ts';

/** What an item leads to, in words; empty when it leads nowhere. */
function target(op: Op): string {
  switch (op.kind) {
    case 'neigh':
      return op.mac;
    case 'fdb':
      return op.to ?? '';
    case 'route':
      return [op.via === undefined ? '' : `via ${op.via} `, `dev ${op.dev}`].join('');
    case 'rule':
      return `table ${op.table}`;
    case 'addr':
    case 'bridge':
    case 'veth':
    case 'vxlan':
    case 'macvlan':
    case 'link':
    case 'link-del':
    case 'sysctl':
      return '';
    default:
      return unreachable(op);
  }
}

export interface Difference {
  /** The item's key in the plan. */
  key: string;
  words: string;
}

/** Items that are missing, lead elsewhere, or are there without a reason. */
export function differences(desired: Items, actual: Items): Difference[] {
  const found: Difference[] = [];
  for (const [key, op] of desired) {
    const has = actual.get(key);
    const wanted = target(op);
    const to = wanted === '' ? '' : ` (it must lead to ${wanted})`;
    if (has === undefined) found.push({ key, words: `${describeOp(op)} is missing${to}` });
    else if (target(has) !== wanted) {
      found.push({ key, words: `${describeOp(op)} leads to ${target(has) || 'nothing'}, it must lead to ${wanted}` });
    }
  }
  for (const [key, op] of actual) {
    if (desired.has(key)) continue;
    const leads = target(op);
    found.push({
      key,
      words: `${describeOp(op)}${leads === '' ? '' : ` (${leads})`} is in the kernel, but not planned`,
    });
  }
  return found;
}
