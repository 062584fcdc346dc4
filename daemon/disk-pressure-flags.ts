import { invalidArgument } from '../base/index.ts';
import type { PressurePolicy } from '../engine/index.ts';

const LOW_BELOW_HIGH_PERCENT = 10;
const IMAGE_AGE_HOURS = 24;

function percent(flag: string, text: string): number {
  const value = Number(text.replace(/%$/, ''));
  if (/^\d+%?$/.test(text) && value >= 1 && value <= 99) return value;
  throw invalidArgument(`invalid argument "${text}" for "--${flag}" flag: a percentage from 1 to 99 is expected`);
}

/**
 * The policy that the flags name; off without a high mark, since images that nobody uses now may be meant for later.
 * @throws ShoalError InvalidArgument
 */
export function diskPressure(highText: string, lowText: string, ageText: string): PressurePolicy | undefined {
  if (highText === '') {
    if (lowText === '' && ageText === '') return undefined;
    throw invalidArgument('--disk-low-mark and --disk-image-age mean nothing without --disk-high-mark');
  }
  const high = percent('disk-high-mark', highText);
  const low = lowText === '' ? Math.max(1, high - LOW_BELOW_HIGH_PERCENT) : percent('disk-low-mark', lowText);
  if (low >= high) throw invalidArgument(`--disk-low-mark ${low}% must be below --disk-high-mark ${high}%`);
  const imageAgeHours = ageText === '' ? IMAGE_AGE_HOURS : Number(ageText.replace(/h$/, ''));
  if (!(imageAgeHours >= 0) || !/^[\d.]+h?$/.test(ageText || '0')) {
    throw invalidArgument(`invalid argument "${ageText}" for "--disk-image-age" flag: hours are expected`);
  }
  return { high: high / 100, low: low / 100, imageAgeHours };
}
