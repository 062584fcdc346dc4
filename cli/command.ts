import type { Flags } from './options.ts';
import type { Context } from './context.ts';

/** One option of a command, as its table says it. */
export interface OptionSpec {
  name: string;
  short?: string;
  /** The word for the value in the help page; `bool` takes none. */
  kind: string;
  help: string;
  /** Reads one value; default by `kind`. @throws Error with the reason */
  parse?: (text: string) => unknown;
  /** May be given more than once; its value is a list. Default by `kind`. */
  many?: boolean;
  /** Value when it is not given. */
  initial?: unknown;
  /** Shown as `(default …)`. */
  shown?: string;
  /** Not in the help page. */
  hidden?: boolean;
}

/** How many arguments a command takes. `max` is Infinity when open. */
export interface Arguments {
  min: number;
  max: number;
}

/** One command of the tree. */
export interface Command {
  /** What follows the command's path in its usage line. */
  usage: string;
  arguments: Arguments;
  options?: readonly OptionSpec[];
  /** Options end at the first argument: the rest belongs to the program that is started. */
  stopAtArgument?: boolean;
  /** Runs it. Resolves to the exit code, 0 when nothing is said. */
  run: (context: Context, flags: Flags, words: readonly string[]) => Promise<number | void>;
}

/** Commands of one file by their last word. */
export type CommandGroup = Readonly<Record<string, Command>>;

/** The command line is wrong; shown with the usage line. */
export class UsageError extends Error {
  readonly exitCode: number;
  /** The hint says "See" in the place of "Run", as docker's does for a wrong number of arguments. */
  readonly see: boolean;

  constructor(message: string, exitCode: number, see = false) {
    super(message);
    this.exitCode = exitCode;
    this.see = see;
  }
}

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
export const FILTER = option('filter,f', 'filter', 'Filter output by conditions (name=value)');
