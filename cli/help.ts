import type { Command, OptionSpec } from './command.ts';

/** Width of help pages when there is no terminal, and the widest that is used. */
const WIDTH_DEFAULT = 80;

/** Words of a text in lines of at most `width` characters. */
export function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  return [...lines, line];
}

/** The table of options: short form, long form with the kind of its value, and what it does. */
export function optionTable(options: readonly OptionSpec[], columns: number): string {
  const shown = options.filter((spec) => spec.hidden !== true).toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const left = shown.map((spec) => {
    const start = spec.short === undefined ? '      ' : `  -${spec.short}, `;
    return `${start}--${spec.name}${spec.kind === 'bool' ? '' : ` ${spec.kind === 'filter' ? 'filter' : spec.kind}`}`;
  });
  const indent = Math.max(0, ...left.map((text) => text.length)) + 3;
  const room = Math.max(24, (columns || WIDTH_DEFAULT) - indent);
  return shown
    .map((spec, i) => {
      const text = spec.help + (spec.shown === undefined ? '' : ` (default ${spec.shown})`);
      return (left[i] ?? '').padEnd(indent) + wrap(text, room).join(`\n${' '.repeat(indent)}`);
    })
    .join('\n');
}

/** The first line of a help page and of a usage error. */
export function usageLine(path: string, command: Command): string {
  const hasOptions = (command.options ?? []).some((spec) => spec.hidden !== true);
  return `Usage:  ${path}${hasOptions ? ' [OPTIONS]' : ''}${command.usage === '' ? '' : ` ${command.usage}`}`;
}

/** The help page of one command. */
export function commandHelp(
  path: string,
  command: Command,
  about: string,
  aliases: readonly string[],
  columns: number,
): string {
  const parts = [usageLine(path, command), about];
  if (aliases.length > 1) parts.push(`Aliases:\n  ${aliases.join(', ')}`);
  if ((command.options ?? []).some((spec) => spec.hidden !== true)) {
    parts.push(`Options:\n${optionTable(command.options ?? [], columns)}`);
  }
  return `${parts.join('\n\n')}\n`;
}

/** A titled list of words and what they do. */
export function wordTable(title: string, words: readonly (readonly [string, string])[]): string {
  const width = Math.max(11, ...words.map(([word]) => word.length)) + 1;
  return `${title}:\n${words.map(([word, about]) => `  ${word.padEnd(width)}${about}`).join('\n')}`;
}
