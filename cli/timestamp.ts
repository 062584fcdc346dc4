import { parseDuration } from './units.ts';

const DATE = /^\d{4}-\d\d-\d\d(?:T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?)?(Z|[+-]\d\d:\d\d)?$/;

/**
 * A moment as the API takes it (seconds, with nanoseconds): of an RFC 3339 time, whole or cut, of a span before now
 * (`42m`), or of seconds as they are. @throws Error for anything else
 */
export function timestamp(text: string, nowMs: number): string {
  if (/^\d+(\.\d+)?$/.test(text)) return text;
  const form = DATE.exec(text);
  if (form !== null) {
    const zone = form[1] ?? '';
    let local = zone === '' ? text : text.slice(0, -zone.length);
    if (local.length === 10) local += 'T00:00:00';
    else if (local.length === 13) local += ':00:00';
    else if (local.length === 16) local += ':00';
    const ms = Date.parse(local + zone);
    if (!Number.isNaN(ms))
      return `${Math.floor(ms / 1000)}.${String(((ms % 1000) + 1000) % 1000).padStart(3, '0')}000000`;
  }
  try {
    const ms = nowMs - parseDuration(text) / 1e6;
    return `${Math.floor(ms / 1000)}.${String(Math.floor(ms % 1000)).padStart(3, '0')}000000`;
  } catch {
    throw new Error(
      `invalid value for "since" or "until": failed to parse value as time or duration: ${JSON.stringify(text)}`,
    );
  }
}
