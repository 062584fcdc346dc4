import type { LostManager, QuorumLoss } from './membership/index.ts';
import { NO_LEADER_MESSAGE } from './store/store.ts';

/** A span for people, rounded down: "3 minutes". */
export function span(ms: number): string {
  const units = [
    ['day', 86_400_000],
    ['hour', 3_600_000],
    ['minute', 60_000],
    ['second', 1_000],
  ] as const;
  for (const [word, size] of units) {
    const count = Math.floor(ms / size);
    if (count >= 1) return `${count} ${word}${count === 1 ? '' : 's'}`;
  }
  return 'less than a second';
}

export interface WordsContext {
  nowMs: number;
  hostname: (nodeId: string) => string;
}

function one(lost: LostManager, { nowMs, hostname }: WordsContext): string {
  const name = hostname(lost.nodeId);
  return `${name === '' ? '' : `${name}, `}node ${lost.nodeId} at ${lost.addr} (missed for ${span(nowMs - lost.sinceMs)}: ${lost.reason})`;
}

const managers = (count: number): string => `${count} manager${count === 1 ? '' : 's'}`;

/** "This manager reaches 1 of 3 managers, itself included; 2 are needed." */
export function quorumSentence(loss: QuorumLoss): string {
  return `This manager reaches ${loss.reachable} of ${managers(loss.voters)}, itself included; ${loss.needed} are needed.`;
}

/** What is lost, what goes on, and the ways out; one entry a line. */
export function quorumLines(loss: QuorumLoss, context: WordsContext): string[] {
  const missing = loss.needed - loss.reachable;
  const which = missing === loss.lost.length ? (missing === 1 ? 'it' : 'them') : `${missing} of them`;
  return [
    `${quorumSentence(loss)} Not reached:`,
    ...loss.lost.map((lost) => `  - ${one(lost, context)}`),
    'Containers go on as they are; until there is a leader nothing can be changed and what fails is not replaced.',
    `Ways out: bring ${which} back (the host, its daemon, or the network to it); or, only if they are lost for good and`,
    'no other managers still reach each other, run "docker swarm init --force-new-cluster" on this manager.',
    'What this manager last knew: "shoal node ls --stale".',
  ];
}

/** Docker's words, then ours. */
export function quorumMessage(loss: QuorumLoss, context: WordsContext): string {
  return [NO_LEADER_MESSAGE, ...quorumLines(loss, context)].join('\n');
}

/** The same on one line, for tables of facts. */
export function quorumLine(loss: QuorumLoss, context: WordsContext): string {
  const lost = loss.lost.map((manager) => one(manager, context)).join('; ');
  return `${NO_LEADER_MESSAGE} ${quorumSentence(loss)} Not reached: ${lost}.`;
}
