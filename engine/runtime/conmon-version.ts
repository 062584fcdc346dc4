/** First version that can leave out the flush of the log at a container's end (conmon's release notes). */
const NO_SYNC_LOG_SINCE = [2, 0, 30] as const;

/**
 * Arguments for a version of conmon. At the end of a container it waits until the log is on the disk, before anybody is
 * told; Docker does not, and a power cut costs no more than the last lines.
 */
export function conmonArguments(version: string): string[] {
  const parts = version.split(/[.+~-]/).map(Number);
  for (const [i, wanted] of NO_SYNC_LOG_SINCE.entries()) {
    const part = parts[i] ?? NaN;
    if (!(part >= wanted)) return [];
    if (part > wanted) break;
  }
  return ['--no-sync-log'];
}
