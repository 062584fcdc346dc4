import type { Service, Task } from '../../proto/index.ts';
import type { ReadView } from '../store/types.ts';

export type SubjectKind = 'task' | 'service' | 'node';

/** One cause in words for people. */
export interface Cause {
  what: string;
  /** Since when it has been so, ms since the epoch. */
  sinceMs?: number | undefined;
  /** When it happened, ms since the epoch. */
  atMs?: number | undefined;
}

/** Nodes that one condition of placement left out. */
export interface Excluded {
  /** Word for programs: ready, resource, constraint, … */
  filter: string;
  /** In Docker's words: "insufficient resources on 3 nodes". */
  what: string;
  /** Nodes whose first unmet condition this is. */
  count: number;
}

/** Why a task has no node. */
export interface PlacementAnswer {
  /** Docker's words: "no suitable node (…)". */
  headline: string;
  excluded: Excluded[];
  /** The node that lacks least, and what it lacks; absent when nothing helps there. */
  nearest: string | undefined;
  /** What the task asks for, and what the nodes have in its place. */
  details: string[];
  /** What would make room, each a sentence. */
  fix: string[];
}

/** An answer to "why". All texts are single lines. */
export interface Answer {
  kind: SubjectKind;
  id: string;
  /** As people know it: `web.1`, `web`, a hostname. */
  name: string;
  /** One word or a few: "pending", "3 of 5 tasks run", "down". */
  state: string;
  /** The cause on one line. */
  headline: string;
  causes: Cause[];
  excluded: Excluded[];
  nearest: string | undefined;
  fix: string[];
  /** What happened before, newest first. */
  history: string[];
}

/** What is known besides the objects that are asked about. */
export interface Situation {
  readonly view: ReadView;
  /** The present, ms since the epoch. */
  readonly nowMs: number;
  /** Why this task, which has no node, gets none. */
  readonly explainPlacement: (task: Task) => PlacementAnswer;
  /** What of its dependencies a service still waits for, in words; undefined when for none. */
  readonly dependencyWait: (service: Service) => string | undefined;
}
