import type { Flags } from './options.ts';
import type { Context } from './context.ts';
import type { Arguments, CommandShape, OptionSpec } from './option-spec.ts';

export { UsageError, type Arguments, type OptionSpec } from './option-spec.ts';

/** One command of the tree. */
export interface Command extends CommandShape {
  /** What follows the command's path in its usage line. */
  usage: string;
  /** Runs it. Resolves to the exit code, 0 when nothing is said. */
  run: (context: Context, flags: Flags, words: readonly string[]) => Promise<number | void>;
}

/** Commands of one file by their last word. */
export type CommandGroup = Readonly<Record<string, Command>>;

/** Ends the program with a code; the text, if any, goes to standard error as it is. */
export class ExitError extends Error {
  readonly exitCode: number;

  constructor(message: string, exitCode: number) {
    super(message);
    this.exitCode = exitCode;
  }
}

export const exactly = (count: number): Arguments => ({ min: count, max: count });
export const atLeast = (count: number): Arguments => ({ min: count, max: Infinity });
export const between = (min: number, max: number): Arguments => ({ min, max });

/** A row of an option table. `name` may carry a short form: `quiet,q`. */
export function option(name: string, kind: string, help: string, more: Partial<OptionSpec> = {}): OptionSpec {
  const [long = '', short] = name.split(',');
  return { name: long, kind, help, ...(short === undefined ? {} : { short }), ...more };
}

export const QUIET = option('quiet,q', 'bool', 'Only display IDs');
export const NO_TRUNC = option('no-trunc', 'bool', "Don't truncate output");
export const FORMAT = option('format', 'string', "Format output: 'table', 'table TEMPLATE', 'json' or a Go template");
export const INSPECT_FORMAT = option('format,f', 'string', "Format output: 'json' or a Go template");
export const STALE = option('stale', 'bool', 'Show what this manager last knew, also without a leader');
export const FILTER = option('filter,f', 'filter', 'Filter output by conditions (name=value)');
