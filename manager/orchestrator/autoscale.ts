import type { AutoscaleSettings } from '../settings/index.ts';

/** Share of the target within which use asks for no change: load is never quite still. */
const TOLERANCE = 0.1;
/** Most that one step may multiply replicas by; the next follows when the use of the new ones is known. */
const STEP_FACTOR_MAX = 2;
/** Samples of one service; when there are more, neighbours are merged. */
const SAMPLES_MAX = 256;
/** Longest time without a sample before the windows begin anew, ms. */
export const SAMPLE_GAP_MAX_MS = 10_000;
/** What rounding of numbers may add to a whole count of replicas. */
const ROUNDING = 1e-9;

/** The least and the most replicas that use has asked for in a span of time. */
export interface AutoscaleSample {
  /** Monotonic clock, ms. */
  readonly fromMs: number;
  readonly toMs: number;
  readonly least: number;
  readonly most: number;
}

/** What was asked for since the service has had its present number of replicas, oldest first, without a gap. */
export interface AutoscaleHistory {
  readonly replicas: number;
  readonly samples: readonly AutoscaleSample[];
}

/** A change of replicas. */
export interface AutoscalePlan {
  replicas: number;
  why: 'below-min' | 'above-max' | 'more' | 'fewer';
  /** How long the use has asked for it, ms. */
  windowMs: number;
}

const sum = (numbers: readonly number[]): number => numbers.reduce((total, one) => total + one, 0);

/** Mean, or undefined of nothing. */
export function average(numbers: readonly number[]): number | undefined {
  return numbers.length === 0 ? undefined : sum(numbers) / numbers.length;
}

/**
 * Replicas that share the use of the present ones so that each comes to the target. Replicas of unknown use count as
 * idle when that asks for more, as fully used when it asks for fewer: what is not known never tips the scale.
 * @param percents use of each replica that tells it. @param target in the same per cent.
 */
export function neededReplicas(percents: readonly number[], replicas: number, target: number): number {
  const used = sum(percents);
  const unknown = Math.max(0, replicas - percents.length);
  const whole = (asked: number): number => Math.max(1, Math.ceil(asked / target - ROUNDING));
  if (used > replicas * target * (1 + TOLERANCE)) return whole(used);
  const most = used + unknown * target;
  if (most < replicas * target * (1 - TOLERANCE)) return whole(most);
  return replicas;
}

const clamp = (value: number, { min, max }: AutoscaleSettings): number => Math.min(max, Math.max(min, value));

/** Halves the number of samples; a merged one says less, so it makes a change later, never earlier. */
function thin(samples: readonly AutoscaleSample[]): AutoscaleSample[] {
  const result: AutoscaleSample[] = [];
  for (let i = 0; i < samples.length; i += 2) {
    const a = samples[i] as AutoscaleSample;
    const b = samples[i + 1] ?? a;
    const [least, most] = [Math.min(a.least, b.least), Math.max(a.most, b.most)];
    result.push({ fromMs: a.fromMs, toMs: b.toMs, least, most });
  }
  return result;
}

/**
 * Adds what the use asks for now. A change of replicas, by whomever, and a gap begin the windows anew.
 * @param needed replicas, before the bounds.
 */
export function remember(
  history: AutoscaleHistory | undefined,
  replicas: number,
  needed: number,
  settings: AutoscaleSettings,
  nowMs: number,
): AutoscaleHistory {
  const asked = clamp(needed, settings);
  const sample = { fromMs: nowMs, toMs: nowMs, least: asked, most: asked };
  const last = history?.samples.at(-1);
  const goesOn = history?.replicas === replicas && last !== undefined && nowMs - last.toMs <= SAMPLE_GAP_MAX_MS;
  if (!goesOn) return { replicas, samples: [sample] };
  const longestMs = Math.max(settings.upAfterMs, settings.downAfterMs);
  // The newest sample that is older than the longest window stays: it says that the window is full.
  const first = history.samples.findLastIndex((one) => one.fromMs <= nowMs - longestMs);
  const samples = [...history.samples.slice(Math.max(0, first)), sample];
  return { replicas, samples: samples.length > SAMPLES_MAX ? thin(samples) : samples };
}

/** Samples of the last `windowMs`; undefined when the history does not reach back that far. */
function within(
  { samples }: AutoscaleHistory,
  windowMs: number,
  nowMs: number,
): readonly AutoscaleSample[] | undefined {
  const startMs = nowMs - windowMs;
  if (samples.length === 0 || (samples[0] as AutoscaleSample).fromMs > startMs) return undefined;
  return samples.filter((one) => one.toMs >= startMs);
}

/**
 * The next number of replicas; undefined when it stays. Out of bounds is corrected at once. Otherwise more come when every
 * sample of `upAfterMs` asked for more, as many as the most modest asked for; fewer when every sample of
 * `downAfterMs` asked for fewer, as few as the most demanding left.
 */
export function planAutoscale(
  history: AutoscaleHistory,
  settings: AutoscaleSettings,
  nowMs: number,
): AutoscalePlan | undefined {
  const { replicas } = history;
  const { min, max, upAfterMs, downAfterMs } = settings;
  if (replicas < min) return { replicas: min, why: 'below-min', windowMs: 0 };
  if (replicas > max) return { replicas: max, why: 'above-max', windowMs: 0 };
  const up = within(history, upAfterMs, nowMs);
  const least = up === undefined ? replicas : Math.min(...up.map((one) => one.least));
  if (least > replicas) {
    return { replicas: Math.min(least, replicas * STEP_FACTOR_MAX), why: 'more', windowMs: upAfterMs };
  }
  const down = within(history, downAfterMs, nowMs);
  const most = down === undefined ? replicas : Math.max(...down.map((one) => one.most));
  return most < replicas ? { replicas: most, why: 'fewer', windowMs: downAfterMs } : undefined;
}
