/** Durations as Go's users write and read them; SwarmKit, Docker and Compose use the same form. */

const NANOSECONDS: Readonly<Record<string, number>> = {
  ns: 1,
  us: 1e3,
  µs: 1e3,
  μs: 1e3,
  ms: 1e6,
  s: 1e9,
  m: 60e9,
  h: 3600e9,
};

/** A word in Go's double quotes. */
export function quote(text: string): string {
  return JSON.stringify(text).replace(/[\u2028\u2029]/g, (mark) => `\\u${mark.charCodeAt(0).toString(16)}`);
}

/** Nanoseconds of a duration such as `10s`, `1m30s` or `-1.5h`. @throws Error in Go's words */
export function parseDuration(text: string): number {
  const invalid = (): Error => new Error(`time: invalid duration ${quote(text)}`);
  const signed = /^([+-]?)(.*)$/s.exec(text);
  let rest = signed?.[2] ?? '';
  if (rest === '0') return 0;
  if (rest === '') throw invalid();
  let total = 0;
  while (rest !== '') {
    const part = /^(\d+\.?\d*|\.\d+)([^\d.]*)(.*)$/s.exec(rest);
    if (part === null) throw invalid();
    const [, amount = '', unit = '', after = ''] = part;
    if (unit === '') throw new Error(`time: missing unit in duration ${quote(text)}`);
    const factor = NANOSECONDS[unit];
    if (factor === undefined) throw new Error(`time: unknown unit ${quote(unit)} in duration ${quote(text)}`);
    total += Number(amount) * factor;
    rest = after;
  }
  return Math.round(total) * (signed?.[1] === '-' ? -1 : 1);
}

const trimmed = (value: number, digits: number): string => value.toFixed(digits).replace(/\.?0+$/, '');

/** Nanoseconds in Go's words: `1m30s`, `1.5s`, `200ms`, `0s`. */
export function formatDuration(nanoseconds: number): string {
  const sign = nanoseconds < 0 ? '-' : '';
  const ns = Math.abs(nanoseconds);
  if (ns === 0) return '0s';
  if (ns < 1e3) return `${sign}${ns}ns`;
  if (ns < 1e6) return `${sign}${trimDecimals(ns / 1e3, 3)}µs`;
  if (ns < 1e9) return `${sign}${trimDecimals(ns / 1e6, 6)}ms`;
  const hours = Math.floor(ns / 3600e9);
  const minutes = Math.floor((ns % 3600e9) / 60e9);
  const seconds = trimDecimals((ns % 60e9) / 1e9, 9);
  if (hours > 0) return `${sign}${hours}h${minutes}m${seconds}s`;
  return minutes > 0 ? `${sign}${minutes}m${seconds}s` : `${sign}${seconds}s`;
}

function trimDecimals(value: number, digits: number): string {
  return Number.isInteger(value) ? String(value) : trimmed(value, digits);
}
