import { unreachable } from '../../base/index.ts';
import { explainNode } from './node.ts';
import { findSubject } from './reference.ts';
import { explainService } from './service.ts';
import { explainTask } from './task.ts';
import type { Answer, Situation } from './types.ts';

/**
 * Why a task, a service or a node is as it is. Pure: a function of the situation.
 * @param kind 'task', 'service', 'node', or '' for whichever the reference stands for.
 * @throws ShoalError NotFound or InvalidArgument when the reference stands for nothing or for several things.
 */
export function explain(situation: Situation, kind: string, reference: string): Answer {
  const subject = findSubject(situation.view, kind, reference);
  switch (subject.kind) {
    case 'task':
      return explainTask(situation, subject.task);
    case 'service':
      return explainService(situation, subject.service);
    case 'node':
      return explainNode(situation, subject.node);
    default:
      return unreachable(subject);
  }
}
