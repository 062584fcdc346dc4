import { invalidArgument } from '../../base/index.ts';

/** Labels that a node may bring when it joins. */
const LABELS_MAX = 64;
/** Longest key, and longest value, bytes. */
const TEXT_MAX_BYTES = 255;

/**
 * The labels that a node joins with: they stand in its object from the start, so that no task is placed before they count.
 * @throws ShoalError InvalidArgument for too many or too long ones, or an empty key.
 */
export function checkedNodeLabels(labels: Readonly<Record<string, string>>): Record<string, string> {
  const entries = Object.entries(labels);
  if (entries.length > LABELS_MAX) throw invalidArgument(`a node joins with at most ${LABELS_MAX} labels`);
  for (const [key, value] of entries) {
    if (key === '') throw invalidArgument('a node label needs a name');
    if (Buffer.byteLength(key) > TEXT_MAX_BYTES || Buffer.byteLength(value) > TEXT_MAX_BYTES) {
      const shown = `${key.slice(0, 32)}${key.length > 32 ? '…' : ''}`;
      throw invalidArgument(`node label '${shown}': name and value have at most ${TEXT_MAX_BYTES} bytes each`);
    }
  }
  return Object.fromEntries(entries);
}
