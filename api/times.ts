import { invalidArgument } from '../base/index.ts';

const UNIT_MS: Readonly<Record<string, number>> = {
  h: 3_600_000,
  m: 60_000,
  s: 1000,
  ms: 1,
  us: 1e-3,
  µs: 1e-3,
  ns: 1e-6,
};

/** A duration as Go writes it (`1h30m`, `1.5h`, `300ms`), ms; undefined for other text. */
export function goDurationMs(text: string): number | undefined {
  const match = /^([+-]?)((?:\d+(?:\.\d*)?|\.\d+)(?:h|ms|m|s|us|µs|ns))+$/.exec(text);
  if (match === null) return text === '0' ? 0 : undefined;
  let total = 0;
  for (const [, number = '', unit = ''] of text.matchAll(/(\d+(?:\.\d*)?|\.\d+)(h|ms|m|s|us|µs|ns)/g)) {
    total += Number(number) * (UNIT_MS[unit] ?? 0);
  }
  return match[1] === '-' ? -total : total;
}

/**
 * A point in time as Docker's filters take it: an age (`24h`), seconds since the epoch with a fraction, or RFC 3339 with
 * or without its time of day and zone (then this host's).
 * @throws ShoalError InvalidArgument
 */
export function pointInTimeMs(name: string, text: string, nowMs: number): number {
  const age = goDurationMs(text);
  if (age !== undefined) return nowMs - age;
  if (/^\d+(\.\d+)?$/.test(text)) return Number(text) * 1000;
  const dated = /^\d{4}-\d\d-\d\d(T\d\d(:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:\d\d)?)?$/.exec(text);
  // A date alone would be read as one of UTC.
  const full = dated?.[1] === undefined ? `${text}T00:00:00` : text.replace(/T(\d\d)(Z|[+-]|$)/, 'T$1:00$2');
  const ms = dated === null ? Number.NaN : Date.parse(full);
  if (Number.isNaN(ms)) throw invalidArgument(`invalid value for "${name}": ${text}: a time or an age is expected`);
  return ms;
}
