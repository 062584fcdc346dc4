import type { Node, Service } from '../../proto/index.ts';
import { labelValue } from '../../scheduler/index.ts';
import type { Slot } from './slot.ts';

/** Fullest and emptiest parts that are compared on each level of the preferences. */
const PARTS_MAX = 16;

/** A node with the tasks of one service. */
export interface Place {
  node: Node;
  /** Tasks of the service that stand there or are on their way. */
  count: number;
  /** Slots that may leave, the one to go first last. */
  slots: Slot[];
}

/** A level of the spread preferences; a node is a part without parts. */
export interface Spread {
  count: number;
  parts: readonly Spread[];
  place: Place | undefined;
}

export interface Move {
  from: Place;
  to: Place;
}

function spreadBy(places: readonly Place[], descriptors: readonly string[]): Spread {
  const count = places.reduce((sum, place) => sum + place.count, 0);
  const [descriptor, ...rest] = descriptors;
  if (descriptor === undefined) {
    const parts = places.map((place) => ({ count: place.count, parts: [], place }));
    return { count, parts, place: undefined };
  }
  const groups = new Map<string, Place[]>();
  for (const place of places) {
    const value = labelValue(place.node, descriptor) ?? '';
    const group = groups.get(value);
    if (group === undefined) groups.set(value, [place]);
    else group.push(place);
  }
  return { count, parts: [...groups.values()].map((group) => spreadBy(group, rest)), place: undefined };
}

/** The tree of a service's spread preferences over its nodes, as the scheduler builds it. */
export function spreadOf(places: readonly Place[], service: Service): Spread {
  const descriptors = (service.spec?.task?.placement?.preferences ?? [])
    .map((preference) => preference.spread?.spread_descriptor ?? '')
    .filter((descriptor) => descriptor !== '');
  return spreadBy(places, descriptors);
}

const emptiestFirst = (spread: Spread): Spread[] => spread.parts.toSorted((a, b) => a.count - b.count);

/** The first place of a part that fits, the emptiest (or fullest) first on every level. */
function pick(spread: Spread, fullest: boolean, fits: (place: Place) => boolean): Place | undefined {
  if (spread.place !== undefined) return fits(spread.place) ? spread.place : undefined;
  const parts = emptiestFirst(spread);
  if (fullest) parts.reverse();
  for (const part of parts.slice(0, PARTS_MAX)) {
    const place = pick(part, fullest, fits);
    if (place !== undefined) return place;
  }
  return undefined;
}

/**
 * The move that levels most: from the fullest to the emptiest part of the topmost level where two parts differ by two or
 * more. A move changes the differences of its own level and of those below only, and always makes one of its own smaller:
 * moves come to an end.
 */
export function findMove(spread: Spread, canTake: (place: Place) => boolean): Move | undefined {
  const parts = emptiestFirst(spread);
  for (const high of parts.slice(-PARTS_MAX).reverse()) {
    for (const low of parts.slice(0, PARTS_MAX)) {
      if (high.count - low.count < 2) break;
      const from = pick(high, true, (place) => place.slots.length > 0);
      if (from === undefined) break;
      const to = pick(low, false, canTake);
      if (to !== undefined) return { from, to };
    }
  }
  for (const part of spread.parts) {
    const move = findMove(part, canTake);
    if (move !== undefined) return move;
  }
  return undefined;
}
