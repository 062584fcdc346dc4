import { readdirSync } from 'node:fs';

const CPU_DIRECTORIES_MAX = 1024;

/** Not visible in a container: they tell of the host or are side channels (moby oci/defaults.go). */
const MASKED_PATHS = [
  ...['acpi', 'asound', 'interrupts', 'kcore', 'keys', 'latency_stats', 'sched_debug', 'scsi'].map((p) => `/proc/${p}`),
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
];
/** Visible, but never written in a container. */
export const READONLY_PATHS: readonly string[] = ['bus', 'fs', 'irq', 'sys', 'sysrq-trigger'].map((p) => `/proc/${p}`);

/** Every processor's throttle counters, which leak what other containers do. */
function throttlePaths(): string[] {
  try {
    return readdirSync('/sys/devices/system/cpu')
      .filter((name) => /^cpu\d+$/.test(name))
      .slice(0, CPU_DIRECTORIES_MAX)
      .map((name) => `/sys/devices/system/cpu/${name}/thermal_throttle`);
  } catch {
    return [];
  }
}

let known: readonly string[] | undefined;

/** What a container that says nothing else does not see. */
export function maskedPaths(): readonly string[] {
  known ??= [...MASKED_PATHS, ...throttlePaths()];
  return known;
}
