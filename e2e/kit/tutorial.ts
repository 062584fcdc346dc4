/** Reads a page whose `console` blocks are commands with what they print, so that the page itself can be tested. */

/** One command of the page. */
export interface Lesson {
  /** Line of the page, from 1. */
  line: number;
  section: string;
  command: string;
  /** What is typed into its terminal. It has one only when there is something to type. */
  typed: string[];
  /** What it prints, line by line. */
  prints: string[];
  /** Exit code as the page has it: a number or a word of the table. */
  exit: string;
}

/** Words of the page's table and the regular expressions that they stand for. */
export type Words = ReadonlyMap<string, string>;

const FENCE = '```';

function* lessonsOf(lines: readonly string[]): Generator<Lesson> {
  let section = '';
  let isInside = false;
  let open: Lesson | undefined;
  for (const [i, text] of lines.entries()) {
    const exit = /^\(exit (.+)\)$/.exec(text);
    if (text.startsWith('## ')) section = text.slice(3);
    if (text.startsWith(FENCE)) {
      isInside = text === `${FENCE}console`;
      if (open !== undefined) yield open;
      open = undefined;
    } else if (isInside && text.startsWith('$ ')) {
      if (open !== undefined) yield open;
      open = { line: i + 1, section, command: text.slice(2), typed: [], prints: [], exit: '0' };
    } else if (open !== undefined && text.startsWith('> ')) {
      open.typed.push(text.slice(2));
    } else if (open !== undefined && exit !== null) {
      open.exit = exit[1] ?? '';
    } else {
      open?.prints.push(text);
    }
  }
}

/** Commands of a page in their order. */
export function readLessons(page: string): Lesson[] {
  return [...lessonsOf(page.split('\n'))];
}

/** The table of words: rows of a word in angle brackets and its expression, both as code. */
export function readWords(page: string): Words {
  const rows = page.matchAll(/^\| `(<[^`]+>)` \| `(.+)` \|$/gm);
  return new Map([...rows].map(([, word = '', expression = '']) => [word, expression]));
}

/** The expression for a line of the page. @throws Error for a word that the table does not have */
function lineExpression(text: string, words: Words): string {
  return text
    .trim()
    .split(/(<[a-z][a-z ]*>)/)
    .map((part, i) => {
      if (i % 2 === 0) return part.replaceAll(/[\\^$*+?.()|[\]{}]/g, '\\$&').replaceAll(/\s+/g, '\\s+');
      const expression = words.get(part);
      if (expression === undefined) throw new Error(`the page has no word ${part}: ${text}`);
      return `(?:${expression})`;
    })
    .join('');
}

/** The expression for all that a command prints, as `plain` gives it. */
export function expected(lesson: Lesson, words: Words): RegExp {
  const lines = lesson.prints.map((text) =>
    text === '...' ? '(?:.*\\n)*?' : `[ \\t]*${lineExpression(text, words)}\\n`,
  );
  return new RegExp(`^${lines.join('')}$`);
}

/** Whether an exit code is the one of the page. */
export function isExit(lesson: Lesson, code: number, words: Words): boolean {
  return new RegExp(`^${lineExpression(lesson.exit, words)}$`).test(String(code));
}

/** Control sequences of a terminal. */
const CONTROL = new RegExp(`${String.fromCharCode(27)}\\[[0-9;?]*[A-Za-z]`, 'g');

/** Output without what a terminal adds: control sequences, carriage returns, spaces at ends of lines, empty lines. */
export function plain(output: string): string {
  const text = output.replaceAll(CONTROL, '').replaceAll('\r', '');
  const lines = text.split('\n').map((line) => line.trimEnd());
  return lines
    .filter((line) => line !== '')
    .map((line) => `${line}\n`)
    .join('');
}
