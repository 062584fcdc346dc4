import { lstatSync, readdirSync, truncateSync, unlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock, Logger } from '../../base/index.ts';
import type { EngineEvent } from '../types.ts';
import type { ContainerSet } from '../containers/containers.ts';
import type { ImageStore } from '../images/index.ts';
import { logFiles } from '../logs/files.ts';
import { DiskPressure, type PressurePolicy, type PressureSources } from './pressure.ts';

/** What was not written to for this time is not being made any more, ms: longer than any step takes. */
const STALE_MS = 2 * 3_600_000;

/** Removes half-made files and directories; returns how many. */
async function removeStale(directory: string, prefix: string, nowMs: number): Promise<number> {
  let count = 0;
  for (const name of readdirSync(directory)) {
    const path = join(directory, name);
    const found = lstatSync(path, { throwIfNoEntry: false });
    if (!name.startsWith(prefix) || found === undefined || nowMs - found.mtimeMs < STALE_MS) continue;
    await rm(path, { recursive: true, force: true });
    count++;
  }
  return count;
}

/** Empties a log; its file stays, so that it can be read. Returns whether there was anything in it. */
function emptyLog(path: string): boolean {
  let bytes = 0;
  for (const file of logFiles(path)) {
    bytes += file.sizeBytes;
    if (file.path !== path) unlinkSync(file.path);
    else truncateSync(path, 0);
  }
  return bytes > 0;
}

/** The image store as disk pressure needs it. */
export type PressedStore = Pick<ImageStore, 'unused' | 'removeUnused'>;

/** What may be removed from an engine's data root under disk pressure. */
export function pressureSources(
  dataRoot: string,
  images: PressedStore,
  set: ContainerSet,
  now: () => number,
): PressureSources {
  return {
    unusedImages: () => images.unused(),
    removeImage: (id) => images.removeUnused(id),
    async removeTemporaries() {
      const places = [
        ['overlay2', 'tmp-'],
        ['image/tmp', ''],
        ['tmp', ''],
      ] as const;
      let count = 0;
      for (const [place, prefix] of places) count += await removeStale(join(dataRoot, place), prefix, now());
      return count;
    },
    endedContainers: () =>
      set
        .list()
        .filter(({ state, logPath }) => (state === 'exited' || state === 'dead') && logPath !== '')
        .sort((a, b) => a.finishedMs - b.finishedMs)
        .map(({ id }) => id),
    async dropLog(id) {
      const { logPath } = set.inspect(id);
      let dropped = false;
      await set.aside(id, () => {
        dropped = emptyLog(logPath);
      });
      return dropped;
    },
  };
}

/** Disk pressure of an engine; undefined without a policy. */
export function diskPressure(
  options: {
    dataRoot: string;
    pressure?: PressurePolicy;
    images: Partial<PressedStore>;
    clock: Clock;
    log: Logger;
  },
  set: ContainerSet,
  onEvent: (event: EngineEvent) => void,
): DiskPressure | undefined {
  const { dataRoot, clock, pressure } = options;
  const { unused, removeUnused } = options.images;
  if (pressure === undefined || unused === undefined || removeUnused === undefined) return undefined;
  const sources = pressureSources(dataRoot, { unused, removeUnused }, set, () => clock.now());
  const log = options.log.with({ component: 'disk-pressure' });
  return new DiskPressure({ dataRoot, policy: pressure, sources, clock, log, onEvent });
}
