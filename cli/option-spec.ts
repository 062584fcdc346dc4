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
  /** Another word for the option of this name: its values are that one's. */
  of?: string;
}

/** How many arguments a command takes. `max` is Infinity when open. */
export interface Arguments {
  min: number;
  max: number;
}

/** What the parser must know of a command. */
export interface CommandShape {
  arguments: Arguments;
  options?: readonly OptionSpec[];
  /** Options end at the first argument: the rest belongs to the program that is started. */
  stopAtArgument?: boolean;
}

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
