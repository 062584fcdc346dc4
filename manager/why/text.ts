import { span } from '../quorum-words.ts';
import type { Answer, Cause } from './types.ts';
import { ago } from './words.ts';

function causeLine({ what, sinceMs = 0, atMs = 0 }: Cause, nowMs: number): string {
  const when = sinceMs > 0 ? ` (for ${span(nowMs - sinceMs)})` : atMs > 0 ? ` (${ago(atMs, nowMs)})` : '';
  return `  - ${what}${when}`;
}

function section(title: string, lines: readonly string[]): string[] {
  return lines.length === 0 ? [] : ['', `${title}:`, ...lines];
}

/** An answer as text for people; long lines are left to whoever knows the width. */
export function answerText(answer: Answer, nowMs: number): string {
  const { kind, id, name, state, headline, causes, excluded, nearest, fix, history } = answer;
  const left = excluded.map(({ what }) => `  - ${what}`);
  const lines = [
    `${kind[0]?.toUpperCase()}${kind.slice(1)} ${name} (${id}): ${state}`,
    // What follows it in lists stands in sections of its own here.
    excluded.length > 0 ? headline.replace(/; (?:nearest fit|to fix): .*$/, '') : headline,
    ...section(
      'Why',
      causes.filter(({ what }) => what !== headline).map((cause) => causeLine(cause, nowMs)),
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
