import { afterAll, beforeAll, expect, it } from 'vitest';
import { SeededRandom, systemClock, systemRandom } from '../base/index.ts';
import { Bed, brokenPromises, Calm, createCounted, Faults, planFaults, until, Writer } from './kit/index.ts';
import type { NodeFacts, ServiceFacts } from './kit/index.ts';

/** SHOAL_CHAOS_FAULTS=50 is the long run (under three minutes). */
const FAULTS = Number(process.env['SHOAL_CHAOS_FAULTS'] ?? 12);
/** The plan of faults and hosts comes from it; the moments at which they meet the load do not. */
const SEED = Number(process.env['SHOAL_CHAOS_SEED'] ?? systemRandom.int(1_000_000));
const MANAGERS = 5;
const SERVICES = 5;
const TEST_TIMEOUT_MS = 60_000 + FAULTS * 5_000;
const AGREE_TIMEOUT_MS = 30_000;

const bed = new Bed('chaos');
const names = Array.from({ length: MANAGERS }, (_none, i) => `m${i + 1}`);

beforeAll(() => bed.up({ managers: MANAGERS, workers: 0 }));
afterAll(() => bed.down());

/** The leader as a host's own store and consensus know it. */
async function leaderSeenBy(host: string): Promise<string | undefined> {
  try {
    const nodes = await bed.api<NodeFacts[]>('/nodes?stale=1', host);
    return nodes.find((node) => node.ManagerStatus?.Leader === true)?.Description.Hostname;
  } catch {
    return undefined;
  }
}

/** A manager's own copy of the services, by name. */
async function ownCopy(host: string): Promise<ServiceFacts[]> {
  const services = await bed.api<ServiceFacts[]>('/services?stale=1', host);
  return services.toSorted((a, b) => a.Spec.Name.localeCompare(b.Spec.Name));
}

/** Waits until all managers have the very same services, and returns them. */
async function agreed(): Promise<ServiceFacts[]> {
  return await until('all managers agree', AGREE_TIMEOUT_MS, async () => {
    const nodes = await bed.nodes();
    const reachable = nodes.filter((node) => node.ManagerStatus?.Reachability === 'reachable');
    if (reachable.length !== MANAGERS) throw new Error(`${reachable.length} managers are reachable`);
    const copies = await Promise.all(names.map(ownCopy));
    const texts = copies.map((copy) => JSON.stringify(copy));
    const apart = names.filter((_name, i) => texts[i] !== texts[0]);
    if (apart.length > 0) throw new Error(`${apart.join(', ')} differ from ${names[0] ?? ''}`);
    return copies[0];
  });
}

it(
  `keeps every acknowledged update through ${FAULTS} faults (SHOAL_CHAOS_SEED=${SEED} SHOAL_CHAOS_FAULTS=${FAULTS})`,
  async () => {
    const random = new SeededRandom(SEED);
    const plan = planFaults(random, FAULTS);
    const hosts = bed.hosts.map((host) => host.docker_host);
    const began = systemClock.monotonic();
    const note = (text: string): void => {
      if (process.env['SHOAL_CHAOS_VERBOSE'] !== undefined) {
        console.log(`${((systemClock.monotonic() - began) / 1000).toFixed(1)} s  ${text}`);
      }
    };
    const faults = new Faults({ lab: bed.lab, hosts: names, random, leader: leaderSeenBy, note });
    const calm = new Calm();
    const writers: Writer[] = [];
    for (let i = 0; i < SERVICES; i++) {
      const name = `counted-${i}`;
      const id = await createCounted(bed.host('m1').docker_host, name);
      writers.push(new Writer({ id, name }, hosts, new SeededRandom(SEED + i + 1), calm));
    }

    const stop = new AbortController();
    const writing = Promise.all(writers.map((writer) => writer.run(stop.signal)));
    try {
      await faults.play(plan);
    } finally {
      stop.abort();
      await writing;
    }

    const services = await agreed();
    const accounts = writers.map((writer) => writer.account);
    const sum = (of: (account: (typeof accounts)[number]) => number): number =>
      accounts.reduce((total, account) => total + of(account), 0);
    const kinds = Object.entries(faults.done.byKind).map(([kind, count]) => `${count} ${kind}`);
    console.log(
      [
        `seed ${SEED}: ${FAULTS} faults in ${((systemClock.monotonic() - began) / 1000).toFixed(0)} s: ${kinds.join(', ')}`,
        `  ${faults.done.onLeader} on the leader, ${faults.done.onTwo} on two hosts at once`,
        `  updates: ${sum((a) => a.attempted)} attempted, ${sum((a) => a.acknowledged.length)} acknowledged, ` +
          `${sum((a) => a.refused)} refused, ${sum((a) => a.unknown)} of unknown outcome`,
        `  longest time without an acknowledged update: ${(calm.longestMs / 1000).toFixed(1)} s`,
        `  the same ${services.length} services on all ${MANAGERS} managers`,
      ].join('\n'),
    );
    expect(services.map((service) => service.Spec.Name)).toEqual(accounts.map((account) => account.service));
    expect(accounts.flatMap((account, i) => brokenPromises(account, services[i] as ServiceFacts))).toEqual([]);
    for (const account of accounts) expect(account.acknowledged.length).toBeGreaterThan(0);
  },
  TEST_TIMEOUT_MS,
);

it('leaves nothing behind', async () => {
  await bed.down();
  expect(bed.lab.leftovers()).toEqual([]);
});
