import { goJson, isTruthy, print } from './template-values.ts';
import { quote } from './units.ts';

type Fn = (...values: unknown[]) => unknown;

const fault = (message: string): Error => new Error(`template parsing error: template: :1: ${message}`);

function lengthOf(value: unknown): number {
  if (typeof value === 'string' || Array.isArray(value)) return value.length;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length;
  if (value === null) return 0;
  throw fault(`len of type ${typeof value}`);
}

function indexOf(value: unknown, ...keys: unknown[]): unknown {
  let found = value;
  for (const key of keys) {
    if (Array.isArray(found)) {
      if (typeof key !== 'number' || key < 0 || key >= found.length)
        throw fault(`error calling index: index out of range: ${print(key)}`);
      found = found[key] as unknown;
    } else if (typeof found === 'object' && found !== null) {
      const map = found as Record<string, unknown>;
      // A key that is not there has the empty value of its kind; the maps of the API hold texts.
      found = Object.hasOwn(map, String(key)) ? map[String(key)] : '';
    } else if (found === null || found === undefined) {
      throw fault('error calling index: index of untyped nil');
    } else throw fault(`error calling index: can't index item of type ${typeof found}`);
  }
  return found;
}

function order(left: unknown, right: unknown): number {
  if (typeof left === 'number' && typeof right === 'number') return left - right;
  if (typeof left === 'string' && typeof right === 'string') return left < right ? -1 : left > right ? 1 : 0;
  throw fault('incompatible types for comparison');
}

function pad(text: unknown, before: unknown, after: unknown): unknown {
  const word = print(text);
  return word === '' ? '' : ' '.repeat(Number(before)) + word + ' '.repeat(Number(after));
}

/** Go's printf, for the verbs that formats use: %s %d %v %q %t %f %x with width and precision. */
function sprintf(format: unknown, ...values: unknown[]): string {
  let at = 0;
  return String(format).replace(
    /%([-+0 ]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])/g,
    (whole, flags: string, width: string | undefined, precision: string | undefined, verb: string) => {
      if (verb === '%') return '%';
      const value = values[at++];
      let text: string;
      if (verb === 'q') text = quote(print(value));
      else if (verb === 'f') text = Number(value).toFixed(precision === undefined ? 6 : Number(precision));
      else if (verb === 'x')
        text = typeof value === 'number' ? value.toString(16) : Buffer.from(print(value)).toString('hex');
      else if ('sdvt'.includes(verb))
        text = precision === undefined ? print(value) : print(value).slice(0, Number(precision));
      else return whole;
      const size = Number(width ?? 0);
      if (flags.includes('-')) return text.padEnd(size);
      return text.padStart(size, flags.includes('0') && verb !== 's' ? '0' : ' ');
    },
  );
}

const FUNCTIONS: Readonly<Record<string, Fn>> = {
  json: goJson,
  split: (text, separator) => String(text).split(String(separator)),
  join: (list, separator) => (list as unknown[]).map(print).join(String(separator)),
  title: (text) => String(text).replace(/(^|\s)\S/g, (start) => start.toUpperCase()),
  lower: (text) => print(text).toLowerCase(),
  upper: (text) => print(text).toUpperCase(),
  pad,
  truncate: (text, width) => print(text).slice(0, Number(width)),
  println: (...values) => `${values.map(print).join(' ')}\n`,
  print: (...values) => values.map(print).join(''),
  printf: sprintf,
  len: lengthOf,
  index: indexOf,
  slice: (value, from, to) =>
    (value as string | unknown[]).slice(Number(from ?? 0), to === undefined ? undefined : Number(to)),
  not: (value) => !isTruthy(value),
  and: (...values) => values.find((value) => !isTruthy(value)) ?? values.at(-1),
  or: (...values) => values.find(isTruthy) ?? values.at(-1),
  eq: (first, ...others) => others.some((other) => first === other || (first === null && other === undefined)),
  ne: (left, right) => left !== right,
  lt: (left, right) => order(left, right) < 0,
  le: (left, right) => order(left, right) <= 0,
  gt: (left, right) => order(left, right) > 0,
  ge: (left, right) => order(left, right) >= 0,
  html: (value) => print(value).replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;'),
  urlquery: (value) => encodeURIComponent(print(value)),
};

/** Functions that give back their argument in the header line of a table. */
const TRANSPARENT = new Set(['json', 'split', 'join', 'title', 'lower', 'upper', 'pad', 'truncate', 'println']);

/** Calls a template function. @throws Error when there is none of this name */
export function callFunction(name: string, values: readonly unknown[], header: boolean): unknown {
  const known = Object.hasOwn(FUNCTIONS, name) ? FUNCTIONS[name] : undefined;
  if (known === undefined) throw fault(`function ${quote(name)} not defined`);
  if (header && TRANSPARENT.has(name)) {
    if (name === 'upper') return print(values[0]).toUpperCase();
    return values[0];
  }
  return known(...values);
}
