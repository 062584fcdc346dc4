import type { Metric } from '../api/index.ts';
import { diskUsage, type Engine, type EngineInfo } from '../engine/index.ts';

/** How full the disk of the data root is, and what was removed because of it. */
export function diskMetrics(engine: Pick<Engine, 'pressure'> & { info(): Pick<EngineInfo, 'dataRoot'> }): Metric[] {
  const counts = engine.pressure?.counts();
  const removed = [...(counts?.removed ?? [])].map(([kind, value]) => ({ labels: { kind }, value }));
  return [
    {
      ...{ name: 'shoal_disk_used_ratio', type: 'gauge', help: 'Used share of the file system of the data root.' },
      samples: [{ value: diskUsage(engine.info().dataRoot).share }],
    },
    {
      ...{ name: 'shoal_disk_pressure_total', type: 'counter', help: 'How often the disk was above its high mark.' },
      samples: [{ value: counts?.cleanups ?? 0 }],
    },
    {
      ...{ name: 'shoal_disk_pressure_removed_total', type: 'counter' },
      help: 'Unused things that were removed for that, by kind.',
      samples: removed,
    },
  ];
}
