import { span } from '../quorum-words.ts';
import type { Answer, Cause } from './types.ts';
import { ago, count } from './words.ts';

function when({ sinceMs = 0, atMs = 0 }: Cause, nowMs: number): string {
  return sinceMs > 0 ? ` (for ${span(nowMs - sinceMs)})` : atMs > 0 ? ` (${ago(atMs, nowMs)})` : '';
}

/** The headline, without what stands in sections of its own, and with the time of the cause that it is. */
function firstLine({ headline, causes, excluded }: Answer, nowMs: number): string {
  if (excluded.length > 0) return headline.replace(/; (?:nearest fit|to fix): .*$/, '');
  const cause = causes.find(({ what }) => what === headline);
  return cause === undefined ? headline : headline + when(cause, nowMs);
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `${title}:`, ...lines];
}

/** An answer as text for people; long lines are left to whoever knows the width. */
export function answerText(answer: Answer, nowMs: number): string {
  const { kind, id, name, state, headline, causes, excluded, nearest, fix, history } = answer;
  // Docker's words for some filters lack the number.
  const left = excluded.map(({ what, count: n }) => `  - ${what}${/\d/.test(what) ? '' : `: ${count(n, 'node')}`}`);
  const lines = [
    `${kind[0]?.toUpperCase()}${kind.slice(1)} ${name} (${id}): ${state}`,
    firstLine(answer, nowMs),
    ...section(
      'Why',
      causes.filter(({ what }) => what !== headline).map((cause) => `  - ${cause.what}${when(cause, nowMs)}`),
    ),
    ...section('Nodes left out by', left),
    ...section('Nearest fit', nearest === undefined ? [] : [`  - ${nearest}`]),
    ...section(
      'What helps',
      fix.map((line) => `  - ${line}`),
    ),
    ...section(
      'Before',
      history.map((line) => `  - ${line}`),
    ),
  ];
  return `${lines.join('\n')}\n`;
}
