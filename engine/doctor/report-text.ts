import type { DoctorReport, Finding } from './fault.ts';

const plural = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`;

function lookedLine({ looked, deep }: Pick<DoctorReport, 'looked' | 'deep'>): string {
  const sorts = Object.entries(looked).map(([what, count]) => plural(count, what.replace(/s$/, '')));
  return `Looked at ${sorts.join(', ')}${deep ? ', and read every blob' : ''}.`;
}

function findingLines({ kind, problem, remedy, repairable, repaired, repairError }: Finding): string[] {
  if (repaired) return [`REPAIRED ${kind}: ${problem}`, `         done: ${remedy}`];
  if (repairError !== '')
    return [`FAILED   ${kind}: ${problem}`, `         ${remedy}, but that failed: ${repairError}`];
  return [`FAULT    ${kind}: ${problem}`, `         ${repairable ? '--repair: ' : ''}${remedy}`];
}

/** Two lines for each fault, what it is and what became of it, and the verdict in the last line. */
export function reportLines(report: Omit<DoctorReport, 'lines'>): string[] {
  const { findings } = report;
  const open = findings.filter((finding) => !finding.repaired).length;
  const mended = findings.length - open;
  const done = mended === 0 ? '' : `${plural(mended, 'fault')} repaired, `;
  const verdict = open > 0 ? `${done}${plural(open, 'fault')} left` : `OK: ${done}nothing ${done && 'else '}is wrong`;
  return [lookedLine(report), ...findings.flatMap(findingLines), verdict];
}
