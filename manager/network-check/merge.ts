/** Reports of agents, bounded and put together. Pure. */
import {
  NetworkVerdict,
  NodeVerdict,
  type NetworkCheckReport,
  type NetworkCheckResult,
  type NetworkTraceStep,
} from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';

const RESULTS_MAX = 64;
const FAULTS_MAX = 64;
const PAIRS_MAX = 1024;
const STEPS_MAX = 256;
const WORDS_MAX = 400;
/** Faults in one answer to a client; more are counted. */
export const FAULTS_TOTAL_MAX = 2000;

/** What became of the order to one host. */
export interface NodeAnswer {
  report?: NetworkCheckReport;
  /** Why there is no report, or it is not whole; empty when all is well. */
  error: string;
}

const cut = <T extends { words: string }>(one: T): T => ({ ...one, words: one.words.slice(0, WORDS_MAX) });

function trimmedResult(result: NetworkCheckResult): NetworkCheckResult {
  const faults = result.faults.slice(0, FAULTS_MAX).map(cut);
  const leftOut = result.faults_left_out + result.faults.length - faults.length;
  return { ...result, faults, faults_left_out: leftOut, pairs: result.pairs.slice(0, PAIRS_MAX) };
}

/** A report with no more in it than an honest agent sends. */
export function trimmed(report: NetworkCheckReport): NetworkCheckReport {
  return {
    ...report,
    error: report.error.slice(0, WORDS_MAX),
    results: report.results.slice(0, RESULTS_MAX).map(trimmedResult),
    trace: report.trace.slice(0, STEPS_MAX).map((step: NetworkTraceStep) => cut(step)),
  };
}

function nodeVerdict(networkId: string, nodeId: string, answer: NodeAnswer | undefined): NodeVerdict {
  const result = answer?.report?.results.find((one) => one.network_id === networkId) ?? null;
  const missing =
    result === null && (answer?.error ?? '') === '' ? 'left out: too many networks at once, name one' : '';
  const error = result === null ? answer?.error || missing : '';
  return NodeVerdict.create({ node_id: nodeId, result, error });
}

/** All networks with what each of their hosts found. */
export function networkVerdicts(
  view: ReadView,
  nodes: ReadonlyMap<string, ReadonlySet<string>>,
  answers: ReadonlyMap<string, NodeAnswer>,
): NetworkVerdict[] {
  let left = FAULTS_TOTAL_MAX;
  const bounded = (verdict: NodeVerdict): NodeVerdict => {
    if (verdict.result === null) return verdict;
    const faults = verdict.result.faults.slice(0, left);
    left -= faults.length;
    const leftOut = verdict.result.faults_left_out + verdict.result.faults.length - faults.length;
    return { ...verdict, result: { ...verdict.result, faults, faults_left_out: leftOut } };
  };
  return [...nodes].map(([networkId, ids]) =>
    NetworkVerdict.create({
      network_id: networkId,
      name: view.get('network', networkId)?.spec?.annotations?.name ?? networkId,
      nodes: [...ids].map((nodeId) => bounded(nodeVerdict(networkId, nodeId, answers.get(nodeId)))),
    }),
  );
}
