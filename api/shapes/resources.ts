import { invalidArgument } from '../../base/index.ts';
import type { JsonObject, ResourceFacts } from '../ports.ts';
import type { Fields } from './fields.ts';

type Rates = NonNullable<ResourceFacts['blkioReadBps']>;

/** Members that are numbers and unset at 0, by the field they fill. */
const NUMBERS = {
  memoryBytes: 'Memory',
  memorySwapBytes: 'MemorySwap',
  memoryReservationBytes: 'MemoryReservation',
  nanoCpus: 'NanoCpus',
  cpuShares: 'CpuShares',
  cpuQuotaUs: 'CpuQuota',
  cpuPeriodUs: 'CpuPeriod',
  cpuRealtimePeriodUs: 'CpuRealtimePeriod',
  cpuRealtimeRuntimeUs: 'CpuRealtimeRuntime',
  blkioWeight: 'BlkioWeight',
} as const;

const RATES = {
  blkioReadBps: 'BlkioDeviceReadBps',
  blkioWriteBps: 'BlkioDeviceWriteBps',
  blkioReadIops: 'BlkioDeviceReadIOps',
  blkioWriteIops: 'BlkioDeviceWriteIOps',
} as const;

/**
 * Limits among the members of a HostConfig, or of the body of POST /containers/{id}/update. What is 0 or left out is not
 * in the result. @throws ShoalError InvalidArgument
 */
export function resourcesFromJson(json: Fields | undefined): ResourceFacts {
  if (json === undefined) return {};
  const out: ResourceFacts = {};
  for (const [field, member] of Object.entries(NUMBERS) as [keyof typeof NUMBERS, string][]) {
    const value = json.number(member);
    if (value !== 0) out[field] = value;
  }
  for (const [field, member] of Object.entries(RATES) as [keyof typeof RATES, string][]) {
    const rates = json.objects(member).map((one) => ({ path: one.string('Path'), rate: one.number('Rate') }));
    if (rates.length > 0) out[field] = rates;
  }
  const weights = json
    .objects('BlkioWeightDevice')
    .map((one) => ({ path: one.string('Path'), weight: one.number('Weight') }));
  if (weights.length > 0) out.blkioWeightDevices = weights;
  if (json.string('CpusetCpus') !== '') out.cpusetCpus = json.string('CpusetCpus');
  if (json.string('CpusetMems') !== '') out.cpusetMems = json.string('CpusetMems');
  const swappiness = json.optionalNumber('MemorySwappiness');
  if (swappiness !== undefined && swappiness !== -1) out.memorySwappiness = swappiness;
  const pids = json.optionalNumber('PidsLimit');
  if (pids !== undefined && pids > 0) out.pidsLimit = pids;
  const keep = json.optionalBool('OomKillDisable');
  if (keep !== undefined) out.oomKillDisable = keep;
  if (json.number('OomScoreAdj') !== 0) out.oomScoreAdj = json.number('OomScoreAdj');
  const ulimits = json.objects('Ulimits').map((one) => {
    return { name: one.string('Name'), soft: one.number('Soft'), hard: one.number('Hard') };
  });
  if (ulimits.length > 0) out.ulimits = ulimits;
  if (json.number('IOMaximumBandwidth') !== 0 || json.number('IOMaximumIOps') !== 0) {
    throw invalidArgument('invalid option: QoS maximum bandwidth configuration is not supported on linux');
  }
  return out;
}

const ratesToJson = (rates: Rates = []): JsonObject[] => rates.map(({ path, rate }) => ({ Path: path, Rate: rate }));

/** The limits of a HostConfig, each with Docker's value for "none". */
export function resourcesToJson(limits: ResourceFacts): JsonObject {
  const numbers = Object.entries(NUMBERS) as [keyof typeof NUMBERS, string][];
  const rates = Object.entries(RATES) as [keyof typeof RATES, string][];
  return {
    ...Object.fromEntries(numbers.map(([field, member]) => [member, limits[field] ?? 0])),
    ...Object.fromEntries(rates.map(([field, member]) => [member, ratesToJson(limits[field])])),
    BlkioWeightDevice: (limits.blkioWeightDevices ?? []).map(({ path, weight }) => ({ Path: path, Weight: weight })),
    CpusetCpus: limits.cpusetCpus ?? '',
    CpusetMems: limits.cpusetMems ?? '',
    MemorySwappiness: limits.memorySwappiness ?? null,
    OomKillDisable: limits.oomKillDisable ?? null,
    OomScoreAdj: limits.oomScoreAdj ?? 0,
    PidsLimit: limits.pidsLimit ?? null,
    Ulimits: (limits.ulimits ?? []).map(({ name, soft, hard }) => ({ Name: name, Hard: hard, Soft: soft })),
    CpuCount: 0,
    CpuPercent: 0,
    IOMaximumIOps: 0,
    IOMaximumBandwidth: 0,
  };
}
