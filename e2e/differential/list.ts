import { readFileSync } from 'node:fs';

/** A recorded command: a line of sh. */
export interface Recorded {
  /** Line of the file, from 1. */
  line: number;
  /** The heading that it stands under. */
  section: string;
  command: string;
}

/** Reads the recorded list: one command a line; `# heading` lines part them, empty lines and long remarks are nothing. */
export function readCommands(file: string): Recorded[] {
  const found: Recorded[] = [];
  let section = '';
  readFileSync(file, 'utf8')
    .split('\n')
    .forEach((text, i) => {
      if (text.startsWith('# ')) section = text.slice(2);
      else if (text.trim() !== '') found.push({ line: i + 1, section, command: text });
    });
  return found;
}
