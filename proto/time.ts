import type { Duration, Timestamp } from './gen/types.ts';

/** A protobuf timestamp for ms since the epoch. */
export function timestampFromMs(ms: number): Timestamp {
  const seconds = Math.floor(ms / 1000);
  const nanos = Math.round((ms - seconds * 1000) * 1e6);
  // Fractions of a nanosecond may round up to the next second.
  return nanos < 1e9 ? { seconds, nanos } : { seconds: seconds + 1, nanos: nanos - 1e9 };
}

/** ms since the epoch; 0 for an absent timestamp. */
export function timestampToMs(timestamp: Timestamp | null | undefined): number {
  return timestamp === null || timestamp === undefined ? 0 : timestamp.seconds * 1000 + timestamp.nanos / 1e6;
}

/** Docker's zero time, for things that never happened. */
export const ZERO_TIME = '0001-01-01T00:00:00Z';

/** RFC 3339 with nanoseconds, trailing zeros cut, as Docker prints times; the zero time for an absent one. */
export function timestampToIso(timestamp: Timestamp | null | undefined): string {
  if (timestamp === null || timestamp === undefined) return ZERO_TIME;
  const whole = new Date(timestamp.seconds * 1000).toISOString().slice(0, 19);
  if (timestamp.nanos === 0) return `${whole}Z`;
  return `${whole}.${String(timestamp.nanos).padStart(9, '0').replace(/0+$/, '')}Z`;
}

/** A protobuf duration for nanoseconds. */
export function durationFromNs(ns: number): Duration {
  const seconds = Math.trunc(ns / 1e9);
  return { seconds, nanos: Math.round(ns - seconds * 1e9) };
}

/** Nanoseconds; undefined for an absent duration. */
export function durationToNs(duration: Duration | null | undefined): number | undefined {
  return duration === null || duration === undefined ? undefined : duration.seconds * 1e9 + duration.nanos;
}

/** Milliseconds, or `otherwise` for an absent duration. */
export function durationToMs(duration: Duration | null | undefined, otherwise: number): number {
  return duration === null || duration === undefined ? otherwise : duration.seconds * 1000 + duration.nanos / 1e6;
}
