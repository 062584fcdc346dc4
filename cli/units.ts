/** Values as docker's users write and read them: durations, sizes, CPUs, ages. Forms follow Go's and go-units' own. */
export { formatDuration, parseDuration, quote } from '../base/index.ts';
import { quote } from '../base/index.ts';

const BINARY = ['', 'k', 'm', 'g', 't', 'p'];

/** Bytes of a size such as `64m`, `1.5GiB` or `512`; units are powers of 1024. @throws Error in go-units' words */
export function parseBytes(text: string): number {
  const part = /^([\d.]*) ?(.*)$/s.exec(text);
  const digits = part?.[1] ?? '';
  const suffix = (part?.[2] ?? '').toLowerCase();
  if (digits === '' || !/^(\d+\.?\d*|\.\d+)$/.test(digits)) throw new Error(`invalid size: '${text}'`);
  const form = /^(?:b|([kmgtp])(?:i?b)?)?$/.exec(suffix);
  if (form === null) throw new Error(`invalid suffix: '${suffix}'`);
  return Math.floor(Number(digits) * 1024 ** BINARY.indexOf(form[1] ?? ''));
}

/** Billionths of a CPU of `0.5` or `2`. @throws Error when it is no number or finer than a billionth */
export function parseCpus(text: string): number {
  const form = /^([+-]?)(\d*)(?:\.(\d*))?$/.exec(text);
  if (form === null || (form[2] ?? '') + (form[3] ?? '') === '') {
    throw new Error(`failed to parse ${text} as a rational number`);
  }
  const fraction = (form[3] ?? '').replace(/0+$/, '');
  if (fraction.length > 9) throw new Error('value is too precise');
  const value = Number(form[2] ?? '0') * 1e9 + Number(fraction.padEnd(9, '0'));
  return form[1] === '-' ? -value : value;
}

const INTEGER = /^[+-]?\d+$/;

/** A whole number, not negative. @throws Error in Go's words */
export function parseUint(text: string): number {
  if (!/^\d+$/.test(text)) throw new Error(`strconv.ParseUint: parsing ${quote(text)}: invalid syntax`);
  return inRange('ParseUint', text);
}

/** A whole number. @throws Error in Go's words */
export function parseInteger(text: string): number {
  if (!INTEGER.test(text)) throw new Error(`strconv.ParseInt: parsing ${quote(text)}: invalid syntax`);
  return inRange('ParseInt', text);
}

function inRange(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new Error(`strconv.${name}: parsing ${quote(text)}: value out of range`);
  return value;
}

/** A number with decimals. @throws Error in Go's words */
export function parseFloatValue(text: string): number {
  if (text.trim() === '' || Number.isNaN(Number(text))) {
    throw new Error(`strconv.ParseFloat: parsing ${quote(text)}: invalid syntax`);
  }
  return Number(text);
}

/** Go's boolean words. @throws Error in Go's words */
export function parseBoolean(text: string): boolean {
  if (['1', 't', 'T', 'TRUE', 'true', 'True'].includes(text)) return true;
  if (['0', 'f', 'F', 'FALSE', 'false', 'False'].includes(text)) return false;
  throw new Error(`strconv.ParseBool: parsing ${quote(text)}: invalid syntax`);
}

/** A number with at most `digits` significant digits, without trailing zeros (C's `%.Ng`). */
function significant(value: number, digits: number): string {
  const text = value.toPrecision(digits);
  if (!text.includes('e')) return text.includes('.') ? text.replace(/\.?0+$/, '') : text;
  return text.replace(/\.?0*e([+-])(\d)$/, 'e$10$2');
}

function scaled(value: number, base: number, names: readonly string[], digits: number): string {
  let size = value;
  let step = 0;
  while (size >= base && step < names.length - 1) {
    size /= base;
    step++;
  }
  return significant(size, digits) + (names[step] ?? '');
}

/** Size in powers of 1000 (`4.27MB`). */
export function humanSize(bytes: number, digits = 4): string {
  return scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB', 'EB', 'ZB', 'YB'], digits);
}

/** Size in powers of 1024 (`64MiB`). */
export function binarySize(bytes: number): string {
  return scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'], 4);
}

/** A span of time in words (`About a minute`, `3 weeks`), rounded as docker does. */
export function humanDuration(ms: number): string {
  const seconds = Math.trunc(ms / 1000);
  if (seconds < 1) return 'Less than a second';
  if (seconds === 1) return '1 second';
  if (seconds < 60) return `${seconds} seconds`;
  const minutes = Math.trunc(ms / 60_000);
  if (minutes === 1) return 'About a minute';
  if (minutes < 60) return `${minutes} minutes`;
  const hours = Math.trunc(ms / 3_600_000 + 0.5);
  if (hours === 1) return 'About an hour';
  if (hours < 48) return `${hours} hours`;
  if (hours < 24 * 7 * 2) return `${Math.trunc(hours / 24)} days`;
  if (hours < 24 * 30 * 2) return `${Math.trunc(hours / 24 / 7)} weeks`;
  if (hours < 24 * 365 * 2) return `${Math.trunc(hours / 24 / 30)} months`;
  return `${Math.trunc(ms / 3_600_000 / 24 / 365)} years`;
}

/** A text cut to `width` characters, the last of them an ellipsis. */
export function ellipsis(text: string, width: number): string {
  const characters = Array.from(text);
  if (characters.length <= width) return text;
  return width <= 1 ? characters.slice(0, width).join('') : `${characters.slice(0, width - 1).join('')}…`;
}

/** The first 12 characters of an id, without its algorithm. */
export function shortId(id: string): string {
  return (id.includes(':') ? id.slice(id.indexOf(':') + 1) : id).slice(0, 12);
}

/** An RFC 3339 time as Go prints a UTC time. */
export function goTime(text: string): string {
  const parts = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d+)?(?:Z|\+00:00)$/.exec(text);
  if (parts === null) return text;
  const fraction = (parts[3] ?? '').replace(/0+$/, '').replace(/^\.$/, '');
  return `${parts[1]} ${parts[2]}${fraction} +0000 UTC`;
}

const pad = (value: number, width = 2): string => String(value).padStart(width, '0');

/** A moment in local time, in Go's default form: `2026-01-02 15:04:05 +0000 UTC`. */
export function localTime(epochMs: number): string {
  const date = new Date(epochMs);
  const offset = -date.getTimezoneOffset();
  const zone = `${offset < 0 ? '-' : '+'}${pad(Math.floor(Math.abs(offset) / 60))}${pad(Math.abs(offset) % 60)}`;
  const parts = new Intl.DateTimeFormat('en-US', { timeZoneName: 'short' }).formatToParts(date);
  const name = parts.find((part) => part.type === 'timeZoneName')?.value ?? 'UTC';
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())} ${zone} ${name}`;
}

/** Numbers inside names in their own order: `web.2` before `web.10`. */
export function naturalOrder(left: string, right: string): number {
  const split = (text: string): string[] => text.match(/\d+|\D+/g) ?? [];
  const [a, b] = [split(left), split(right)];
  for (let i = 0; i < Math.min(a.length, b.length); i++) {
    const [x = '', y = ''] = [a[i], b[i]];
    if (x === y) continue;
    if (/^\d/.test(x) && /^\d/.test(y) && Number(x) !== Number(y)) return Number(x) - Number(y);
    return x < y ? -1 : 1;
  }
  return a.length - b.length;
}

/** Order of two RFC 3339 times in UTC, whose fractions of a second may differ in length. */
export function timeOrder(left: string, right: string): number {
  const digits = (text: string): string => {
    const [whole = '', fraction = ''] = text.replace(/Z$/, '').split('.');
    return `${whole}.${fraction.padEnd(9, '0')}`;
  };
  const [a, b] = [digits(left), digits(right)];
  return a < b ? -1 : a > b ? 1 : 0;
}
