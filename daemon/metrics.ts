import { diskMetrics } from './disk-metrics.ts';
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks';
import type { Metric } from '../api/index.ts';
import { DURATION_BOUNDS_SECONDS, type Engine, type EngineInfo } from '../engine/index.ts';
import type { EventHub } from './events.ts';
import type { NetworkRepairs } from '../overlay-net/index.ts';

/** How exactly the event loop's delay is measured, ms. */
const LOOP_RESOLUTION_MS = 10;
const US_PER_SECOND = 1e6;

let loop: IntervalHistogram | undefined;

/** What the event loop's turns took beyond the timer's own time, since the last reading, s. */
function loopDelay(): { p99: number; max: number } {
  if (loop === undefined) {
    loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS });
    loop.enable();
  }
  const seconds = (ns: number): number => (Number.isFinite(ns) ? Math.max(0, ns / 1e6 - LOOP_RESOLUTION_MS) / 1e3 : 0);
  const read = loop.count === 0 ? { p99: 0, max: 0 } : { p99: seconds(loop.percentile(99)), max: seconds(loop.max) };
  loop.reset();
  return read;
}

export interface MeasuredParts {
  engine: Pick<Engine, 'counters' | 'pressure'> & {
    info(): Pick<EngineInfo, 'containers' | 'cpus' | 'dataRoot' | 'memoryBytes' | 'kernelVersion' | 'architecture'>;
  };
  hub: Pick<EventHub, 'published' | 'listeners'>;
  repairs: Pick<NetworkRepairs, 'counts' | 'failed'>;
  version: string;
  gitCommit: string;
}

/** A measurement without labels. */
const one = (name: string, type: Metric['type'], help: string, value: number): Metric => ({
  ...{ name, type, help },
  samples: [{ value }],
});

/** Counters of containers and events, and how long what is done to containers takes. */
function counted({ counters }: Pick<Engine, 'counters'>, hub: MeasuredParts['hub']): Metric[] {
  const durations = [...counters.durations()].flatMap(([action, { count, sumSeconds, upTo }]) => [
    ...DURATION_BOUNDS_SECONDS.map((bound, i) => {
      return { suffix: '_bucket', labels: { action, le: String(bound) }, value: upTo[i] ?? 0 };
    }),
    { suffix: '_bucket', labels: { action, le: '+Inf' }, value: count },
    { suffix: '_sum', labels: { action }, value: sumSeconds },
    { suffix: '_count', labels: { action }, value: count },
  ]);
  return [
    {
      ...{ name: 'engine_daemon_container_actions_seconds', type: 'histogram' },
      help: 'How long creations, starts and removals of containers take.',
      samples: durations,
    },
    one('engine_daemon_health_checks_total', 'counter', 'Health checks that were run.', counters.healthChecks),
    one(
      'engine_daemon_health_checks_failed_total',
      'counter',
      'Health checks that could not be run to their end.',
      counters.healthCheckFailures,
    ),
    one('engine_daemon_events_total', 'counter', 'Events since the start of the daemon.', hub.published),
    one('engine_daemon_events_subscribers_total', 'gauge', 'Readers of events now.', hub.listeners),
  ];
}

/** The daemon's measurements: dockerd's names where dockerd has them, those of Prometheus' clients for the process. */
export function daemonMetrics({ engine, hub, repairs, version, gitCommit }: MeasuredParts): Metric[] {
  const { containers, cpus, memoryBytes, kernelVersion, architecture } = engine.info();
  const { rss } = process.memoryUsage();
  const { user, system } = process.cpuUsage();
  const delay = loopDelay();
  const info = { version, commit: gitCommit, architecture, kernel: kernelVersion };
  const states = { running: containers.running, paused: containers.paused, stopped: containers.stopped };
  const repaired = [...repairs.counts()].map(([kind, value]) => ({ labels: { kind }, value }));
  return [
    ...diskMetrics(engine),
    {
      ...{ name: 'engine_daemon_engine_info', type: 'gauge', help: 'The daemon and the host it runs on.' },
      samples: [{ labels: info, value: 1 }],
    },
    one('engine_daemon_engine_cpus_cpus', 'gauge', 'Processors of the host.', cpus),
    one('engine_daemon_engine_memory_bytes', 'gauge', 'Memory of the host.', memoryBytes),
    {
      ...{ name: 'engine_daemon_container_states_containers', type: 'gauge', help: 'Containers by state.' },
      samples: Object.entries(states).map(([state, value]) => ({ labels: { state }, value })),
    },
    ...counted(engine, hub),
    {
      ...{ name: 'shoal_network_repairs_total', type: 'counter' },
      help: 'Differences between the kernel and the network plan that were repaired, by kind.',
      samples: repaired,
    },
    one(
      'shoal_network_repair_failures_total',
      'counter',
      'Repairs of the network that did not succeed.',
      repairs.failed,
    ),
    one('shoal_event_loop_delay_p99_seconds', 'gauge', 'Delay of timers since the last reading.', delay.p99),
    one('shoal_event_loop_delay_max_seconds', 'gauge', 'The same, the longest.', delay.max),
    one('process_cpu_seconds_total', 'counter', 'Processor time of the daemon.', (user + system) / US_PER_SECOND),
    one('process_resident_memory_bytes', 'gauge', 'Resident memory of the daemon.', rss),
    one('process_start_time_seconds', 'gauge', 'Start of the daemon since the epoch.', startSeconds()),
  ];
}

function startSeconds(): number {
  return Math.round(performance.timeOrigin) / 1e3;
}
