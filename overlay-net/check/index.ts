/** Proofs that this host's part of a network works, asked for by managers. */
import { errorMessage } from '../../base/index.ts';
import {
  NetworkCheckReport,
  NetworkCheckResult,
  NetworkFault_Kind,
  type NetworkCheckOrder,
} from '../../proto/index.ts';
import { Findings } from './findings.ts';
import { checkNames } from './names.ts';
import { checkPath } from './path.ts';
import { ReachCheck } from './reach.ts';
import { traceHere } from './trace.ts';
import { checkUnderlay } from './underlay.ts';
import { localTasks, type CheckOptions } from './view.ts';

/** Containers of one network that are tried from. */
export const TASKS_MAX = 32;
/** Networks of one order. */
export const NETWORKS_MAX = 64;
/** Longest time for one order, ms; what is not done by then is left out and said. */
const ORDER_TIMEOUT_MS = 20_000;

async function checkOne(networkId: string, options: CheckOptions): Promise<NetworkCheckResult> {
  const findings = new Findings();
  const result = NetworkCheckResult.create({ network_id: networkId });
  const overlay = options.overlays.get(networkId);
  if (overlay === undefined) {
    findings.add(NetworkFault_Kind.PATH, '', 'this host was given no table of the network');
    return { ...result, faults: findings.faults };
  }
  const all = localTasks(overlay, options.sandboxes);
  const tasks = all.slice(0, TASKS_MAX);
  const reach = new ReachCheck(overlay, findings, options);
  const entries = await checkPath(overlay, all, findings, options);
  // The ingress network names nothing.
  const names = overlay.facts.ingress
    ? { asked: 0, right: 0 }
    : await checkNames(() => overlay.table, tasks, findings, options);
  // Containers try side by side, a few at a time: they share this thread.
  const waiting = [...tasks];
  const workers = Array.from({ length: 4 }, async () => {
    for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) await reach.from(task);
  });
  await Promise.all(workers);
  await checkUnderlay(overlay, reach.unreached(), findings, options);
  return {
    ...result,
    tasks: tasks.length,
    tasks_left_out: all.length - tasks.length,
    names: names.asked,
    names_right: names.right,
    entries,
    pairs: reach.pairs(),
    faults: findings.faults,
    faults_left_out: findings.leftOut,
  };
}

/** Does what a manager ordered. Nothing of the kernel is changed. Never throws: what cannot be tried is said. */
export async function runCheck(order: NetworkCheckOrder, options: CheckOptions): Promise<NetworkCheckReport> {
  const report = NetworkCheckReport.create({ id: order.id });
  const endMs = options.clock.monotonic() + ORDER_TIMEOUT_MS;
  try {
    if (order.trace !== null) {
      const overlay = options.overlays.get(order.trace.network_id);
      if (overlay === undefined) return { ...report, error: 'this host was given no table of the network' };
      return { ...report, trace: await traceHere(order.trace, overlay, options) };
    }
    for (const id of order.network_ids.slice(0, NETWORKS_MAX)) {
      if (options.clock.monotonic() > endMs) return { ...report, error: 'not all networks were checked in time' };
      report.results.push(await checkOne(id, options));
    }
    return report;
  } catch (error) {
    return { ...report, error: errorMessage(error) };
  }
}
