import { ZERO_TIME } from '../../proto/index.ts';
import type { BlockUseFacts, ContainerStatsFacts, StatsSampleFacts } from '../control-port.ts';
import type { JsonObject } from '../ports.ts';

const NO_CPU = {
  cpu_usage: { total_usage: 0, usage_in_kernelmode: 0, usage_in_usermode: 0 },
  throttling_data: { periods: 0, throttled_periods: 0, throttled_time: 0 },
};

function cpu(facts: ContainerStatsFacts | undefined): JsonObject {
  if (facts === undefined) return NO_CPU;
  const { totalNs, userNs, kernelNs, perCpuNs, systemNs, onlineCpus } = facts.cpu;
  return {
    cpu_usage: {
      total_usage: totalNs,
      percpu_usage: perCpuNs,
      usage_in_kernelmode: kernelNs,
      usage_in_usermode: userNs,
    },
    system_cpu_usage: systemNs,
    online_cpus: onlineCpus,
    throttling_data: {
      periods: facts.cpu.periods,
      throttled_periods: facts.cpu.throttledPeriods,
      throttled_time: facts.cpu.throttledNs,
    },
  };
}

function memory(facts: ContainerStatsFacts | undefined): JsonObject {
  if (facts === undefined) return {};
  const { usageBytes, maxUsageBytes, failures, limitBytes, stats } = facts.memory;
  return { usage: usageBytes, max_usage: maxUsageBytes, stats, failcnt: failures || undefined, limit: limitBytes };
}

const block = (uses: readonly BlockUseFacts[] | undefined): JsonObject[] | null =>
  uses === undefined || uses.length === 0
    ? null
    : uses.map(({ major, minor, operation, value }) => ({ major, minor, op: operation, value }));

function networks(facts: ContainerStatsFacts | undefined): JsonObject | undefined {
  const found = Object.entries(facts?.networks ?? {});
  if (found.length === 0) return undefined;
  return Object.fromEntries(
    found.map(([name, use]) => [
      name,
      {
        rx_bytes: use.rxBytes,
        rx_packets: use.rxPackets,
        rx_errors: use.rxErrors,
        rx_dropped: use.rxDropped,
        tx_bytes: use.txBytes,
        tx_packets: use.txPackets,
        tx_errors: use.txErrors,
        tx_dropped: use.txDropped,
      },
    ]),
  );
}

const time = (facts: ContainerStatsFacts | undefined): string =>
  facts === undefined ? ZERO_TIME : new Date(facts.readMs).toISOString();

/** One object of GET /containers/{id}/stats. No limit of processes is left out: 2^64-1 is no number of JavaScript's. */
export function containerStatsToJson({ id, name, stats, before }: StatsSampleFacts): JsonObject {
  return {
    read: time(stats),
    preread: time(before),
    pids_stats: stats === undefined ? {} : stats.pids,
    blkio_stats: {
      io_service_bytes_recursive: block(stats?.blockBytes),
      io_serviced_recursive: block(stats?.blockOperations),
      io_queue_recursive: null,
      io_service_time_recursive: null,
      io_wait_time_recursive: null,
      io_merged_recursive: null,
      io_time_recursive: null,
      sectors_recursive: null,
    },
    num_procs: 0,
    storage_stats: {},
    cpu_stats: cpu(stats),
    precpu_stats: cpu(before),
    memory_stats: memory(stats),
    name: `/${name}`,
    id,
    networks: networks(stats),
  };
}
