import type { Service } from '../../proto/index.ts';
import { dependencyWait } from '../orchestrator/dependencies.ts';
import type { ReadView } from '../store/types.ts';
import { explain } from './explain.ts';
import { placementExplainer } from './placement.ts';
import { answerText } from './text.ts';
import type { Answer } from './types.ts';

export { ERROR_MAX, withErrors } from './headline.ts';
export type { Answer } from './types.ts';
export { bytes, count, cpus, hostname } from './words.ts';

/**
 * Why a task, a service or a node is as it is, and the same as text.
 * @param kind 'task', 'service', 'node', or '' for whichever the reference stands for.
 * @throws ShoalError NotFound or InvalidArgument when the reference stands for nothing or for several things.
 */
export function why(view: ReadView, nowMs: number, kind: string, reference: string): Answer & { text: string } {
  const situation = {
    view,
    nowMs,
    explainPlacement: placementExplainer(view, nowMs),
    dependencyWait: (service: Service) => dependencyWait(view, service, nowMs),
  };
  const answer = explain(situation, kind, reference);
  return { ...answer, text: answerText(answer, nowMs) };
}
