const DAY_MS = 24 * 3_600_000;
const MINUTE_MS = 60_000;
/** How far ahead a run is looked for, days: 29 February can be eight years away (1896 to 1904). */
const SEARCH_DAYS_MAX = 9 * 366;
/** Time zones whose formatter is kept; making one costs more than using it. */
const ZONES_MAX = 256;
/** Longest schedule that is read, characters. */
const TEXT_MAX = 256;

/** When a job runs: the values that each field allows. */
export interface CronSchedule {
  minutes: readonly number[];
  hours: readonly number[];
  /** Days of the month, from 1. */
  days: ReadonlySet<number>;
  /** Months, from 1. */
  months: ReadonlySet<number>;
  /** Days of the week, 0 to 6 from Sunday. */
  weekdays: ReadonlySet<number>;
  /** Whether the field begins with `*`: when neither day field does, a day that fits one of them is enough. */
  anyDay: boolean;
  anyWeekday: boolean;
}

interface Field {
  what: string;
  low: number;
  high: number;
  names?: readonly string[];
}

const MONTHS = ['jan', 'feb', 'mar', 'apr', 'may', 'jun', 'jul', 'aug', 'sep', 'oct', 'nov', 'dec'];
const WEEKDAYS = ['sun', 'mon', 'tue', 'wed', 'thu', 'fri', 'sat'];

const FIELDS = {
  minute: { what: 'minute', low: 0, high: 59 },
  hour: { what: 'hour', low: 0, high: 23 },
  day: { what: 'day of the month', low: 1, high: 31 },
  month: { what: 'month', low: 1, high: 12, names: MONTHS },
  // Both 0 and 7 are Sunday.
  weekday: { what: 'day of the week', low: 0, high: 7, names: WEEKDAYS },
} satisfies Record<string, Field>;

const SHORTHANDS: Readonly<Record<string, string>> = {
  '@hourly': '0 * * * *',
  '@daily': '0 0 * * *',
  '@midnight': '0 0 * * *',
  '@weekly': '0 0 * * 0',
  '@monthly': '0 0 1 * *',
  '@yearly': '0 0 1 1 *',
  '@annually': '0 0 1 1 *',
};

function readValue(text: string, field: Field): number {
  const named = field.names?.indexOf(text.toLowerCase()) ?? -1;
  if (named >= 0) return named + field.low;
  const value = /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= field.low && value <= field.high) return value;
  throw new Error(`${field.what} '${text}' is not between ${field.low} and ${field.high}`);
}

/** One part of a list: `*`, `5`, `1-5`, each with an optional step; `5/10` goes on to the end. */
function readPart(part: string, field: Field): number[] {
  const [range = '', stepText, ...more] = part.split('/');
  const bounds = range.split('-');
  if (more.length > 0 || bounds.length > 2) throw new Error(`${field.what} '${part}' is no value, range or step`);
  const step = stepText === undefined ? 1 : Number(/^\d{1,2}$/.test(stepText) ? stepText : 0);
  if (step === 0) throw new Error(`${field.what} '${part}': the step is not a number above 0`);
  const isAll = range === '*';
  const first = isAll ? field.low : readValue(bounds[0] ?? '', field);
  const open = isAll || (bounds.length === 1 && stepText !== undefined);
  const last = open ? field.high : readValue(bounds.at(-1) ?? '', field);
  if (last < first) throw new Error(`${field.what} '${part}': the range ends before it begins`);
  const values: number[] = [];
  for (let value = first; value <= last; value += step) values.push(value);
  return values;
}

function readField(text: string, field: Field): number[] {
  const values = new Set(text.split(',').flatMap((part) => readPart(part, field)));
  return [...values].sort((a, b) => a - b);
}

function daysIn(month: number, year: number): number {
  return new Date(Date.UTC(year, month, 0)).getUTCDate();
}

/** Whether any day of any year fits. */
function isPossible({ days, months, anyWeekday }: CronSchedule): boolean {
  const first = Math.min(...days);
  // A restricted day of the week comes every month; 2000 was a leap year.
  return !anyWeekday || [...months].some((month) => first <= daysIn(month, 2000));
}

/**
 * Reads the five fields of cron (minute, hour, day of month, month, day of week) with lists, ranges, steps and English
 * names, or a shorthand such as `@daily`.
 * @throws Error that names the field.
 */
export function parseCron(text: string): CronSchedule {
  if (text.length > TEXT_MAX) throw new Error(`it has more than ${TEXT_MAX} characters`);
  const trimmed = text.trim();
  const full = trimmed.startsWith('@') ? SHORTHANDS[trimmed.toLowerCase()] : trimmed;
  if (full === undefined) throw new Error(`'${trimmed}' is not one of ${Object.keys(SHORTHANDS).join(', ')}`);
  const parts = full.split(/\s+/);
  const [minute = '', hour = '', day = '', month = '', weekday = ''] = parts;
  if (parts.length !== 5) {
    throw new Error('it does not have five fields: minute, hour, day of the month, month, day of the week');
  }
  const schedule: CronSchedule = {
    minutes: readField(minute, FIELDS.minute),
    hours: readField(hour, FIELDS.hour),
    days: new Set(readField(day, FIELDS.day)),
    months: new Set(readField(month, FIELDS.month)),
    weekdays: new Set(readField(weekday, FIELDS.weekday).map((value) => value % 7)),
    anyDay: day.startsWith('*'),
    anyWeekday: weekday.startsWith('*'),
  };
  if (!isPossible(schedule)) throw new Error('there is no such day in any of its months');
  return schedule;
}

const formatters = new Map<string, Intl.DateTimeFormat>();

function formatterOf(timeZone: string): Intl.DateTimeFormat {
  let formatter = formatters.get(timeZone);
  if (formatter === undefined) {
    formatter = new Intl.DateTimeFormat('en-US', {
      timeZone,
      hourCycle: 'h23',
      year: 'numeric',
      month: 'numeric',
      day: 'numeric',
      hour: 'numeric',
      minute: 'numeric',
      second: 'numeric',
    });
    if (formatters.size >= ZONES_MAX) formatters.clear();
    formatters.set(timeZone, formatter);
  }
  return formatter;
}

/** Whether this host knows the time zone. */
export function isTimeZone(timeZone: string): boolean {
  try {
    formatterOf(timeZone);
    return true;
  } catch {
    return false;
  }
}

/** What clocks in the zone show at `ms`, as if they showed UTC, ms. */
export function wallClockMs(timeZone: string, ms: number): number {
  const parts: Partial<Record<Intl.DateTimeFormatPartTypes, string>> = {};
  for (const { type, value } of formatterOf(timeZone).formatToParts(ms)) parts[type] = value;
  const part = (type: Intl.DateTimeFormatPartTypes): number => Number(parts[type]);
  return Date.UTC(part('year'), part('month') - 1, part('day'), part('hour'), part('minute'), part('second'));
}

/** How far the zone's clocks are ahead of UTC at `ms` (whole seconds), ms. */
function offsetMs(timeZone: string, ms: number): number {
  return wallClockMs(timeZone, ms) - ms;
}

/** The first minute after which clocks show the later offset; `low` has the earlier one, `high` the later. */
function changeOfClocks(timeZone: string, lowMs: number, highMs: number): number {
  const before = offsetMs(timeZone, lowMs);
  let low = lowMs;
  let high = highMs;
  while (high - low > MINUTE_MS) {
    const middle = low + Math.floor((high - low) / 2 / MINUTE_MS) * MINUTE_MS;
    if (offsetMs(timeZone, middle) === before) low = middle;
    else high = middle;
  }
  return high;
}

/** The zone's clocks around one day; `dayMs` is its midnight as if clocks showed UTC. */
interface Clocks {
  timeZone: string;
  before: number;
  after: number;
  dayMs: number;
}

/**
 * When clocks show a time: usually once. Twice when clocks are put back: the first time counts, unless the schedule asks
 * for every hour anyway. Never when they are put forward: then the first minute after counts, unless it asks for every
 * hour.
 */
function instantsOf({ timeZone, before, after, dayMs }: Clocks, wallMs: number, everyHour: boolean): number[] {
  if (before === after) return [wallMs - before];
  const instants = [wallMs - Math.max(before, after), wallMs - Math.min(before, after)];
  const shown = instants.filter((ms) => wallClockMs(timeZone, ms) === wallMs);
  if (shown.length > 0) return everyHour ? shown : shown.slice(0, 1);
  return everyHour ? [] : [changeOfClocks(timeZone, dayMs - DAY_MS - before, dayMs + 2 * DAY_MS - after)];
}

function fitsDay(schedule: CronSchedule, dayMs: number): boolean {
  const date = new Date(dayMs);
  if (!schedule.months.has(date.getUTCMonth() + 1)) return false;
  const day = schedule.days.has(date.getUTCDate());
  const weekday = schedule.weekdays.has(date.getUTCDay());
  return schedule.anyDay || schedule.anyWeekday ? day && weekday : day || weekday;
}

/** The first run on a day after `afterMs`; undefined when there is none. */
function nextOnDay(schedule: CronSchedule, timeZone: string, dayMs: number, afterMs: number): number | undefined {
  const before = offsetMs(timeZone, dayMs - DAY_MS);
  const after = offsetMs(timeZone, dayMs + 2 * DAY_MS);
  const clocks = { timeZone, before, after, dayMs };
  const everyHour = schedule.hours.length === 24;
  let first: number | undefined;
  for (const hour of schedule.hours) {
    for (const minute of schedule.minutes) {
      const wallMs = dayMs + (hour * 60 + minute) * MINUTE_MS;
      for (const ms of instantsOf(clocks, wallMs, everyHour)) {
        if (ms > afterMs && (first === undefined || ms < first)) first = ms;
      }
      // On a plain day times come in order.
      if (first !== undefined && before === after) return first;
    }
  }
  return first;
}

/**
 * The first time after `afterMs` at which the schedule is due by the clocks of the zone (ms since the epoch, a whole
 * minute). A time that clocks leave out (put forward) is due at the first minute after; one that they show twice is due
 * the first time; a schedule for all 24 hours simply follows the clocks.
 * @returns undefined when there is none within nine years, which `parseCron` rules out.
 */
export function nextCron(schedule: CronSchedule, timeZone: string, afterMs: number): number | undefined {
  const today = Math.floor(wallClockMs(timeZone, afterMs) / DAY_MS) * DAY_MS;
  // Yesterday's last hours may have been left out, and so be due today.
  for (let day = -1; day <= SEARCH_DAYS_MAX; day++) {
    const dayMs = today + day * DAY_MS;
    if (!fitsDay(schedule, dayMs)) continue;
    const found = nextOnDay(schedule, timeZone, dayMs, afterMs);
    if (found !== undefined) return found;
  }
  return undefined;
}
