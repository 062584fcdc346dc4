import { Template } from './template.ts';
import { Row } from './template-values.ts';

/** Least width of a column and the blanks between two, as docker's tables have them. */
const COLUMN_WIDTH_MIN = 10;
const COLUMN_GAP = 3;

/** Columns that a character takes on a terminal (wide East Asian forms take two). */
function displayWidth(text: string): number {
  let width = 0;
  for (const char of text) {
    const point = char.codePointAt(0) ?? 0;
    const wide =
      (point >= 0x1100 && point <= 0x115f) ||
      (point >= 0x2e80 && point <= 0xa4cf) ||
      (point >= 0xac00 && point <= 0xd7a3) ||
      (point >= 0xf900 && point <= 0xfaff) ||
      (point >= 0xfe30 && point <= 0xfe6f) ||
      (point >= 0xff00 && point <= 0xff60) ||
      (point >= 0x1f300 && point <= 0x1faff);
    width += wide ? 2 : 1;
  }
  return width;
}

/**
 * Sets tab-separated lines in columns. A column spans the neighbouring lines that go on after it; a line's last cell
 * is not padded (the elastic tab stops of Go's text/tabwriter).
 */
export function alignColumns(text: string, widthMin = COLUMN_WIDTH_MIN, gap = COLUMN_GAP): string {
  const lines = text.split('\n').map((line) => line.split('\t'));
  const columns = Math.max(...lines.map((cells) => cells.length)) - 1;
  for (let column = 0; column < columns; column++) {
    for (let first = 0; first < lines.length; first++) {
      if ((lines[first] as string[]).length - 1 <= column) continue;
      let end = first;
      let width = widthMin;
      while (end < lines.length && (lines[end] as string[]).length - 1 > column) {
        width = Math.max(width, displayWidth(lines[end]?.[column] ?? '') + gap);
        end++;
      }
      for (let i = first; i < end; i++) {
        const cells = lines[i] as string[];
        const cell = cells[column] ?? '';
        cells[column] = cell + ' '.repeat(width - displayWidth(cell));
      }
      first = end;
    }
  }
  return lines.map((cells) => cells.join('')).join('\n');
}

/** What a list command shows: rows, their default columns, and headers by field. */
export interface Listing {
  rows: readonly Row[];
  /** Template of the default table, without the word `table`. */
  columns: string;
  headers: Readonly<Record<string, string>>;
  /** `--format`, empty when not given. */
  format: string;
  /** Template of the format `raw`, where the command has one. */
  raw?: string;
  /** `--quiet`: only this field. */
  quiet?: string | undefined;
}

function runRow(template: Template, row: Row): string {
  try {
    return template.run(row);
  } catch (error) {
    const reason = (error as Error).message.replace(/^template parsing error: /, '');
    throw new Error(`failed to execute template: ${reason}`, { cause: error });
  }
}

/** Text of a list in the form that was asked for. @throws Error when the format has a fault */
export function renderListing(listing: Listing): string {
  const { rows, headers, quiet } = listing;
  let format = listing.format;
  if (format === '' || format === 'table') format = quiet === undefined ? `table ${listing.columns}` : `{{.${quiet}}}`;
  if (format === 'json') format = '{{json .}}';
  if (format === 'raw' && listing.raw !== undefined) format = listing.raw;
  const isTable = format.startsWith('table');
  const source = (isTable ? format.slice('table'.length) : format)
    .replace(/^ +| +$/g, '')
    .replaceAll('\\t', '\t')
    .replaceAll('\\n', '\n');
  const template = new Template(source);
  const body = rows.map((row) => `${runRow(template, row)}\n`).join('');
  if (!isTable) return body;
  return alignColumns(`${template.runHeader(headers)}\n${body}`);
}

/** `<HEADER>` names of fields, given as `Field=HEADER` words; a word alone is its own header in capitals. */
export function headers(...words: string[]): Record<string, string> {
  return Object.fromEntries(
    words.map((word) => {
      const [field = '', header] = word.split('=');
      return [field, header ?? field.toUpperCase()];
    }),
  );
}
