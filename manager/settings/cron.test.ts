import { describe, expect, test } from 'vitest';
import { SeededRandom } from '../../base/index.ts';
import { isTimeZone, nextCron, parseCron, wallClockMs, type CronSchedule } from './cron.ts';

const MINUTE_MS = 60_000;

const next = (text: string, zone: string, after: string): string =>
  new Date(nextCron(parseCron(text), zone, Date.parse(after))!).toISOString().slice(0, 16);

describe('a schedule', () => {
  test.each([
    ['*/15 * * * *', '2026-01-01T00:00:00Z', '2026-01-01T00:15'],
    ['*/15 * * * *', '2026-01-01T00:14:59.999Z', '2026-01-01T00:15'],
    ['5,35 8-10 * * *', '2026-01-01T08:35:00Z', '2026-01-01T09:05'],
    ['0 9 * * mon-FRI', '2026-01-02T10:00:00Z', '2026-01-05T09:00'],
    ['0 0 * * 7', '2026-01-01T00:00:00Z', '2026-01-04T00:00'],
    ['0 0 * * 5-7', '2026-01-03T00:00:00Z', '2026-01-04T00:00'],
    ['0 0 1 JAN,jul *', '2026-01-02T00:00:00Z', '2026-07-01T00:00'],
    ['10/20 * * * *', '2026-01-01T00:31:00Z', '2026-01-01T00:50'],
    ['0 0 29 2 *', '2096-03-01T00:00:00Z', '2104-02-29T00:00'],
    ['@hourly', '2026-01-01T00:00:00Z', '2026-01-01T01:00'],
    ['@daily', '2026-01-01T00:00:00Z', '2026-01-02T00:00'],
    ['@weekly', '2026-01-01T00:00:00Z', '2026-01-04T00:00'],
    ['@monthly', '2026-01-01T00:00:00Z', '2026-02-01T00:00'],
    ['@Yearly', '2026-01-01T00:00:00Z', '2027-01-01T00:00'],
  ])('%s after %s is due at %s', (text, after, due) => expect(next(text, 'UTC', after)).toBe(due));

  test('with both day fields is due when one of them fits; a field that begins with * is no restriction', () => {
    expect(next('0 0 13 * fri', 'UTC', '2026-01-01T00:00:00Z')).toBe('2026-01-02T00:00');
    expect(next('0 0 13 * fri', 'UTC', '2026-01-09T00:00:00Z')).toBe('2026-01-13T00:00');
    expect(next('0 0 */13 * fri', 'UTC', '2026-01-01T00:00:00Z')).toBe('2026-02-27T00:00');
  });

  test.each([
    ['61 * * * *', "minute '61' is not between 0 and 59"],
    ['* 24 * * *', "hour '24'"],
    ['* * 0 * *', "day of the month '0' is not between 1 and 31"],
    ['* * * foo *', "month 'foo'"],
    ['* * * * 8', "day of the week '8' is not between 0 and 7"],
    ['* * * *', 'five fields'],
    ['* * * * * *', 'five fields'],
    ['', 'five fields'],
    ['*/0 * * * *', 'the step is not a number above 0'],
    ['1/2/3 * * * *', 'no value, range or step'],
    ['1-2-3 * * * *', 'no value, range or step'],
    ['30-10 * * * *', 'ends before it begins'],
    ['1, * * * *', "minute ''"],
    ['-1 * * * *', "minute ''"],
    ['@reboot', 'is not one of @hourly'],
    ['0 0 30 2 *', 'there is no such day'],
    ['0 0 31 4,6,9,11 *', 'there is no such day'],
    ['* '.repeat(200), 'more than 256'],
  ])('%s is refused', (text, words) => expect(() => parseCron(text)).toThrow(words));

  test('an impossible day of the month is fine beside a day of the week', () => {
    expect(next('0 0 30 2 mon', 'UTC', '2026-01-01T00:00:00Z')).toBe('2026-02-02T00:00');
  });
});

describe('time zones', () => {
  test('are those of the host', () => {
    expect(isTimeZone('Europe/Berlin')).toBe(true);
    expect(isTimeZone('Mars/Olympus')).toBe(false);
    expect(next('0 9 * * *', 'Asia/Kolkata', '2026-01-01T00:00:00Z')).toBe('2026-01-01T03:30');
  });

  test('a time that clocks leave out is due at the first minute after, once', () => {
    expect(next('30 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z')).toBe('2026-03-29T01:00');
    expect(next('*/10 2 * * *', 'Europe/Berlin', '2026-03-29T01:00:00Z')).toBe('2026-03-30T00:00');
    expect(next('0 0 * * *', 'America/Sao_Paulo', '2018-11-03T12:00:00Z')).toBe('2018-11-04T03:00');
    // Samoa left out a whole day.
    expect(next('0 12 30 12 *', 'Pacific/Apia', '2011-12-29T00:00:00Z')).toBe('2011-12-30T10:00');
  });

  test('a time that clocks show twice is due once', () => {
    expect(next('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z')).toBe('2026-10-25T00:30');
    expect(next('30 2 * * *', 'Europe/Berlin', '2026-10-25T00:30:00Z')).toBe('2026-10-26T01:30');
  });

  test('a schedule for every hour follows the clocks', () => {
    expect(next('30 * * * *', 'Europe/Berlin', '2026-10-25T00:30:00Z')).toBe('2026-10-25T01:30');
    expect(next('30 * * * *', 'Europe/Berlin', '2026-03-29T00:30:00Z')).toBe('2026-03-29T01:30');
  });
});

/** Whether a wall-clock time fits, field by field. */
function fits(schedule: CronSchedule, wallMs: number): boolean {
  const wall = new Date(wallMs);
  const day = schedule.days.has(wall.getUTCDate());
  const weekday = schedule.weekdays.has(wall.getUTCDay());
  return (
    schedule.minutes.includes(wall.getUTCMinutes()) &&
    schedule.hours.includes(wall.getUTCHours()) &&
    schedule.months.has(wall.getUTCMonth() + 1) &&
    (schedule.anyDay || schedule.anyWeekday ? day && weekday : day || weekday)
  );
}

/** Minute by minute, as somebody would who watches a clock. */
function walk(schedule: CronSchedule, zone: string, afterMs: number, untilMs: number): number | undefined {
  const shown = new Set<number>();
  const start = Math.floor(afterMs / MINUTE_MS) * MINUTE_MS;
  let before = wallClockMs(zone, start - 181 * MINUTE_MS);
  for (let ms = start - 180 * MINUTE_MS; ms <= untilMs; ms += MINUTE_MS) {
    const wall = wallClockMs(zone, ms);
    let due = fits(schedule, wall);
    if (schedule.hours.length < 24) {
      if (shown.has(wall)) due = false;
      for (let left = before + MINUTE_MS; left < wall; left += MINUTE_MS) due ||= fits(schedule, left);
    }
    shown.add(wall);
    before = wall;
    if (due && ms > afterMs) return ms;
  }
  return undefined;
}

test('agrees with a walk from minute to minute, also where clocks are changed', () => {
  const random = new SeededRandom(11);
  const pick = <T>(values: readonly T[]): T => values[random.int(values.length)]!;
  const zones = [
    'UTC',
    'Europe/Berlin',
    'America/New_York',
    'Australia/Lord_Howe',
    'Asia/Kathmandu',
    'America/St_Johns',
  ];
  const changes = ['2026-03-29', '2026-10-25', '2026-03-08', '2026-11-01', '2026-04-05', '2026-10-04', '2026-06-01'];
  const spans = 2 * 24 * 60;
  for (let round = 0; round < 80; round++) {
    const minute = pick(['0', '30', '*/20', '15,45', '7-9']);
    const hour = pick(['*', '1', '2', '1-3', '*/2', '0,2,23', '3']);
    const text = `${minute} ${hour} ${pick(['*', '*', '1-15', '25,29'])} * ${pick(['*', '*', 'sun', 'mon-fri'])}`;
    const zone = pick(zones);
    const after = Date.parse(`${pick(changes)}T00:00:00Z`) - 24 * 60 * MINUTE_MS + random.int(spans) * MINUTE_MS;
    const until = after + 36 * 60 * MINUTE_MS;
    const schedule = parseCron(text);
    const found = nextCron(schedule, zone, after)!;
    const expected = walk(schedule, zone, after, Math.min(until, found + MINUTE_MS));
    const what = `${text} in ${zone} after ${new Date(after).toISOString()}`;
    if (found <= until)
      expect(`${what}: ${new Date(expected ?? 0).toISOString()}`).toBe(`${what}: ${new Date(found).toISOString()}`);
    else expect(`${what}: ${walk(schedule, zone, after, until)}`).toBe(`${what}: undefined`);
  }
}, 60_000);
