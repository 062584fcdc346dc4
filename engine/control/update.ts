import { join } from 'node:path';
import { rm, writeFile } from 'node:fs/promises';
import { conflict, errorMessage, newHexId, ShoalError } from '../../base/index.ts';
import type { ContainerUnit } from '../containers/unit.ts';
import { inScope } from '../runtime/cgroup-driver.ts';
import { requireAlive } from '../runtime/process.ts';
import { verifyLimits } from '../runtime/limits.ts';
import type { ContainerChange, ContainerConfig, LimitChange } from '../types.ts';

const UPDATE_TIMEOUT_MS = 30_000;
const CPU_PERIOD_US = 100_000;
const NANO_PER_CPU = 1e9;
const UNLIMITED = -1;

/** Memory and swap together that apply: as much swap again as memory, unless the user said otherwise. */
function swapOf(limits: LimitChange): number {
  return limits.memorySwapBytes || (limits.memoryBytes ?? 0) * 2;
}

/** @throws ShoalError Conflict in Docker's words for a change that does not go with what is set. */
function checkAgainst(before: LimitChange, change: LimitChange, swapAccounting: boolean): void {
  const { nanoCpus = 0, cpuPeriodUs = 0, cpuQuotaUs = 0, memoryBytes = 0 } = change;
  const clash = (what: string, set: string): never => {
    throw conflict(`Conflicting options: ${what} cannot be updated as ${set} has already been set`);
  };
  if (nanoCpus > 0 && (before.cpuPeriodUs ?? 0) > 0) clash('Nano CPUs', 'CPU Period');
  if (nanoCpus > 0 && (before.cpuQuotaUs ?? 0) > 0) clash('Nano CPUs', 'CPU Quota');
  if (cpuPeriodUs > 0 && (before.nanoCpus ?? 0) > 0) clash('CPU Period', 'NanoCPUs');
  if (cpuQuotaUs > 0 && (before.nanoCpus ?? 0) > 0) clash('CPU Quota', 'NanoCPUs');
  const swap = swapAccounting ? swapOf(before) : 0;
  if (swap > 0 && memoryBytes > swap && !change.memorySwapBytes) {
    throw conflict(
      'Memory limit should be smaller than already set memoryswap limit, update the memoryswap at the same time',
    );
  }
}

/** Zero and empty mean "as it is" in Docker's update, but a limit of processes may become none. */
function given(change: LimitChange): LimitChange {
  const entries = Object.entries(change).filter(([key, value]) => {
    return value !== undefined && value !== '' && (value !== 0 || key === 'pidsLimit');
  });
  return Object.fromEntries(entries) as LimitChange;
}

/**
 * The resources document of `runc update` (and crun's): only what changes. The runtime writes it to the control groups
 * of v1 or v2, in an order that the kernel takes.
 */
export function updateDocument(change: LimitChange, after: LimitChange, swapAccounting: boolean): object {
  const memory: Record<string, number> = {};
  if (change.memoryBytes) memory['limit'] = change.memoryBytes;
  if (change.memoryReservationBytes) memory['reservation'] = change.memoryReservationBytes;
  // The kernel's two limits depend on each other: given together, the runtime finds the order.
  if (swapAccounting && (change.memoryBytes || change.memorySwapBytes)) {
    memory['limit'] = after.memoryBytes ?? UNLIMITED;
    memory['swap'] = swapOf(after) || UNLIMITED;
  }
  const cpu: Record<string, number | string> = {};
  if (change.cpuShares) cpu['shares'] = change.cpuShares;
  if (change.nanoCpus) {
    cpu['period'] = CPU_PERIOD_US;
    cpu['quota'] = Math.max(1000, Math.round((change.nanoCpus / NANO_PER_CPU) * CPU_PERIOD_US));
  }
  if (change.cpuPeriodUs) cpu['period'] = change.cpuPeriodUs;
  if (change.cpuQuotaUs) cpu['quota'] = change.cpuQuotaUs;
  if (change.cpuRealtimePeriodUs) cpu['realtimePeriod'] = change.cpuRealtimePeriodUs;
  if (change.cpuRealtimeRuntimeUs) cpu['realtimeRuntime'] = change.cpuRealtimeRuntimeUs;
  if (change.cpusetCpus) cpu['cpus'] = change.cpusetCpus;
  if (change.cpusetMems) cpu['mems'] = change.cpusetMems;
  const pids =
    change.pidsLimit === undefined ? undefined : { limit: change.pidsLimit > 0 ? change.pidsLimit : UNLIMITED };
  return {
    ...(Object.keys(memory).length === 0 ? {} : { memory }),
    ...(Object.keys(cpu).length === 0 ? {} : { cpu }),
    ...(pids === undefined ? {} : { pids }),
    ...(change.blkioWeight ? { blockIO: { weight: change.blkioWeight } } : {}),
  };
}

function checkRestart(config: ContainerConfig, restart: NonNullable<ContainerChange['restart']>): void {
  if (config.autoRemove && restart.name !== 'no') {
    throw conflict('Restart policy cannot be updated because AutoRemove is enabled for the container');
  }
}

/** Gives new limits to the processes of a running container. */
async function applyLimits(unit: ContainerUnit, document: object): Promise<void> {
  const { parts, container } = unit.record;
  const { runtime } = parts;
  if (Object.keys(document).length === 0) return;
  const base = join(runtime.bundle(container.id), `update-${newHexId(parts.random).slice(0, 16)}`);
  const files = { json: `${base}.json`, log: `${base}.log` };
  await writeFile(files.json, JSON.stringify(document), { mode: 0o600 });
  try {
    const args = [
      ...runtime.runtimeArgs(files.log, inScope(container)),
      'update',
      '--resources',
      files.json,
      container.id,
    ];
    const result = await parts.spawner.run({
      file: (await parts.runtimes.get(container.config.runtime)).path,
      args,
      timeoutMs: UPDATE_TIMEOUT_MS,
    });
    if (result.code === 0) return;
    requireAlive(container);
    const words = result.stderr.toString('utf8').trim() || `the runtime ended with ${String(result.code)}`;
    throw new ShoalError('Internal', words);
  } finally {
    await Promise.all(Object.values(files).map((path) => rm(path, { force: true })));
  }
}

/**
 * Changes limits and restart policy: in the kernel when the container runs, and in its record. Returns warnings.
 * @throws ShoalError in Docker's words; the record is as before then.
 */
export async function update(unit: ContainerUnit, { limits, restart }: ContainerChange): Promise<string[]> {
  const { record } = unit;
  const { parts, container } = record;
  const change = given(limits);
  // What is set matters later, but for memory: a limit with swap is judged against that which stays.
  const memoryBytes = change.memoryBytes ?? container.config.resources.memoryBytes ?? 0;
  const { warnings } = verifyLimits({ ...change, memoryBytes }, parts.sysInfo, true);
  const cannot = (error: unknown): ShoalError => {
    const code = error instanceof ShoalError ? error.code : 'Internal';
    return new ShoalError(code, `Cannot update container ${container.id}: ${errorMessage(error)}`);
  };
  await unit.lock.run(async () => {
    const { config } = container;
    try {
      if (unit.removed || container.state === 'removing' || container.state === 'dead') {
        throw conflict('container is marked for removal and cannot be "update"');
      }
      checkAgainst(config.resources, change, parts.swapAccounting);
      if (restart !== undefined) checkRestart(config, restart);
      const resources = { ...config.resources, ...change };
      if (unit.running) await applyLimits(unit, updateDocument(change, resources, parts.swapAccounting));
      container.config = { ...config, resources, ...(restart === undefined ? {} : { restart }) };
      await record.save();
    } catch (error) {
      throw cannot(error);
    }
  });
  record.event('update');
  // Of swap it is told only when memory was changed now.
  return change.memoryBytes ? warnings : warnings.filter((words) => !words.includes('swap limit'));
}
