import { invalidArgument } from '../../base/index.ts';
import type { ContainerChangeFacts, LimitChangeFacts } from '../control-port.ts';
import type { Fields } from './fields.ts';

type NumberKey = Exclude<keyof LimitChangeFacts, 'cpusetCpus' | 'cpusetMems'>;

const NUMBERS: Readonly<Record<string, NumberKey>> = {
  Memory: 'memoryBytes',
  MemorySwap: 'memorySwapBytes',
  MemoryReservation: 'memoryReservationBytes',
  NanoCpus: 'nanoCpus',
  CpuShares: 'cpuShares',
  CpuQuota: 'cpuQuotaUs',
  CpuPeriod: 'cpuPeriodUs',
  CpuRealtimePeriod: 'cpuRealtimePeriodUs',
  CpuRealtimeRuntime: 'cpuRealtimeRuntimeUs',
  BlkioWeight: 'blkioWeight',
  PidsLimit: 'pidsLimit',
};

const POLICIES = ['no', 'always', 'on-failure', 'unless-stopped'] as const;

/** A RestartPolicy; undefined when none is named. @throws ShoalError InvalidArgument in Docker's words */
export function restartFromJson(policy: Fields | undefined): ContainerChangeFacts['restart'] {
  const text = policy?.string('Name') ?? '';
  if (policy === undefined || text === '') return undefined;
  const name = POLICIES.find((known) => known === text);
  const maximumRetryCount = policy.number('MaximumRetryCount');
  if (name === undefined) {
    const words = "use one of 'no', 'always', 'on-failure', or 'unless-stopped'";
    throw invalidArgument(`invalid restart policy: unknown policy '${text}'; ${words}`);
  }
  if (name !== 'on-failure' && maximumRetryCount !== 0) {
    const more = maximumRetryCount < 0 ? ' and cannot be negative' : '';
    throw invalidArgument(`invalid restart policy: maximum retry count can only be used with 'on-failure'${more}`);
  }
  if (maximumRetryCount < 0) throw invalidArgument('invalid restart policy: maximum retry count cannot be negative');
  return { name, maximumRetryCount };
}

/** Body of POST /containers/{id}/update. @throws ShoalError InvalidArgument */
export function changeFromJson(json: Fields): ContainerChangeFacts {
  const limits: LimitChangeFacts = {};
  for (const [name, key] of Object.entries(NUMBERS)) {
    const value = json.optionalNumber(name);
    if (value !== undefined) limits[key] = value;
  }
  const [cpusetCpus, cpusetMems] = [json.string('CpusetCpus'), json.string('CpusetMems')];
  const restart = restartFromJson(json.object('RestartPolicy'));
  return {
    limits: { ...limits, ...(cpusetCpus === '' ? {} : { cpusetCpus }), ...(cpusetMems === '' ? {} : { cpusetMems }) },
    ...(restart === undefined ? {} : { restart }),
  };
}
