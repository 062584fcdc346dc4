/** The part of every list filter that all kinds share. */
export interface CommonFilters {
  names: string[];
  id_prefixes: string[];
}

/** Whether a list filter lets a value pass: an empty list lets all. */
export function oneOf<T>(wanted: readonly T[], value: T): boolean {
  return wanted.length === 0 || wanted.includes(value);
}

function startsWithOne(prefixes: readonly string[], value: string): boolean {
  return prefixes.length === 0 || prefixes.some((prefix) => value.startsWith(prefix));
}

/** Docker's `name` and `id` filters: both match the beginning. */
export function passesCommon(filters: CommonFilters, name: string, id: string): boolean {
  return startsWithOne(filters.names, name) && startsWithOne(filters.id_prefixes, id);
}

/** Whether all wanted labels are there; an empty value wants the key only. */
export function hasLabels(
  labels: Readonly<Record<string, string>> | undefined,
  wanted: Readonly<Record<string, string>>,
): boolean {
  return Object.entries(wanted).every(([key, value]) => {
    const actual = labels !== undefined && Object.hasOwn(labels, key) ? labels[key] : undefined;
    return actual !== undefined && (value === '' || actual === value);
  });
}
