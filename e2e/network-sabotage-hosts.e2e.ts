import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, systemClock } from '../base/index.ts';
import { HEALED_WITHIN_MS, NetworkBed, until } from './kit/index.ts';

/**
 * Daemons die and come back, the lead changes, hosts are cut off and start anew: within 5 s all of the network holds
 * again, and connections between tasks whose hosts live go on.
 */
const bed = new NetworkBed('sabotage-hosts');
const MANAGERS = ['m1', 'm2', 'm3'];
/** Shorter than the silence after which a node counts as down and loses its tasks, ms. */
const SHORT_CUT_MS = 3_000;
/** Longer than it, and than an election takes, ms. */
const LONG_CUT_MS = 7_000;

beforeAll(async () => {
  await bed.make(3);
  await bed.holds(20_000);
  bed.connect('m3');
}, 120_000);
afterAll(() => bed.down());

const others = (than: string): string[] => MANAGERS.filter((name) => name !== than);
const hostsBut = (than: string): string[] => bed.hosts.map(({ name }) => name).filter((name) => name !== than);

/** The leader, with another manager from now on answering for the swarm. */
async function leaderAside(): Promise<string> {
  const leader = await bed.leader();
  bed.first = must(others(leader)[0], 'another manager');
  return leader;
}

async function anotherLeader(than: string): Promise<void> {
  await until(`a leader other than ${than}`, 20_000, async () => (await bed.leader()) !== than);
}

/** A host that is cut off again before it was heard would be silent for both times: between two cuts lie other cases. */
async function cutFor(ms: number, hosts: readonly string[]): Promise<void> {
  await bed.lab.partition(hosts, false);
  await systemClock.sleep(ms);
  await bed.lab.heal(hosts);
}

it('the workers are cut off from the managers: nothing between them is cut', async () => {
  await cutFor(SHORT_CUT_MS, ['w1', 'w2']);
  await bed.holds();
  await bed.connectionsLive();
});

it.each(['w1', 'w2'])('the daemon of %s is killed: connections go on without it and with the next', async (host) => {
  await bed.lab.kill(host);
  await systemClock.sleep(500);
  await bed.connectionsLive();
  await bed.lab.start(host);
  await bed.holds();
  await bed.connectionsLive();
});

it('what was broken while the daemon was dead is mended by the next', async () => {
  await bed.lab.kill('w1');
  for (const network of ['app', 'ingress'] as const) await bed.inNetwork('w1', network, 'ip link del vxlan0');
  await bed.inNetwork('w1', 'vault', 'ip link del br0');
  await bed.inNetwork('w1', 'secure', 'nft flush ruleset; ip route flush table main');
  await bed.inTaskNetwork('client', 'nft flush ruleset; ip route flush table main; ip link set eth0 down');
  await bed.inside('w1', ['nft', 'flush', 'ruleset']);
  await bed.lab.start('w1');
  await bed.holds();
  await bed.connectionsLive();
});

it('namespaces that were unmounted while the daemon was dead are made anew', async () => {
  await bed.lab.kill('w1');
  const own = `${bed.lab.names.hostRunDir('w1')}/exec/netns`;
  await bed.inside('w1', ['sh', '-c', `umount ${own}/ov-* ${own}/ingress ${own}/secure`]);
  await bed.lab.start('w1');
  await bed.holds();
  await bed.connectionsLive();
});

it("the leader's daemon is killed and started again at once", async () => {
  const leader = await leaderAside();
  await bed.lab.kill(leader);
  await bed.lab.start(leader);
  await bed.holds();
  await bed.connectionsLive();
});

it('another manager leads: all holds without the old one, and with it again', async () => {
  const leader = await leaderAside();
  await bed.lab.kill(leader);
  await anotherLeader(leader);
  await bed.holds(HEALED_WITHIN_MS, hostsBut(leader));
  await bed.connectionsLive();
  await bed.lab.start(leader);
  await bed.holds();
  await bed.connectionsLive();
});

it('a worker is cut off from all: its connections go on when it is back', async () => {
  await cutFor(SHORT_CUT_MS, ['w1']);
  await bed.holds();
  await bed.connectionsLive();
});

it('the leader is cut off for long: another leads, and all holds when it is back', async () => {
  const leader = await leaderAside();
  await bed.lab.partition([leader], false);
  await systemClock.sleep(LONG_CUT_MS);
  expect(await bed.leader()).not.toBe(leader);
  await bed.lab.heal([leader]);
  await bed.holds();
  // What stood through the leader sends again when TCP's next try is due: each comes after twice the time.
  await bed.connectionsLive(2 * LONG_CUT_MS);
});

/** Kinds of the network namespaces that networks need on a host, and how many of containers there are. */
async function namespaces(host: string): Promise<[string[], number]> {
  const names = (await bed.inside(host, ['ls', `${bed.lab.names.hostRunDir(host)}/exec/netns`])).split('\n');
  const networks = names.filter((name) => /^(ov-|ingress$|secure$)/.test(name));
  const containers = names.filter((name) => /^[0-9a-f]{12}$/.test(name));
  return [networks.map((name) => name.replace(/^ov-.*/, 'ov')).sort(), containers.length];
}

it('a host starts anew: connections of others go on, its tasks come back, nothing else is left', async () => {
  const leader = await leaderAside();
  if (leader === 'm3') bed.endConnection('connection by ingress');
  await bed.lab.crash(leader);
  await bed.lab.start(leader);
  await bed.giveAddress6(
    leader,
    bed.hosts.findIndex(({ name }) => name === leader),
  );
  await bed.holds();
  await bed.connectionsLive();
  for (const connection of bed.connections.splice(0)) connection.end();
  const workers = ['w1', 'w2'];
  await Promise.all(workers.map((host) => bed.lab.crash(host)));
  await Promise.all(workers.map((host) => bed.lab.start(host)));
  for (const host of workers)
    await bed.giveAddress6(
      host,
      bed.hosts.findIndex(({ name }) => name === host),
    );
  for (const service of ['client', 'near', 'server']) await bed.replaced(service);
  await bed.find('client', 'near', 'server');
  await bed.serve();
  await bed.holds();
  for (const host of workers) {
    expect(await namespaces(host)).toEqual([['ingress', 'ov', 'ov', 'secure'], host === 'w1' ? 1 : 2]);
  }
}, 60_000);

it('with the services go the networks, and nothing is left of them', async () => {
  bed.endPrograms();
  await bed.client.run('service', 'rm', 'server', 'client', 'near');
  await bed.client.run('network', 'rm', 'app', 'vault');
  await until('nothing left', 15_000, async () => {
    for (const host of ['w1', 'w2']) {
      const [networks, containers] = await namespaces(host);
      if (containers > 0 || networks.some((name) => name !== 'ingress')) throw new Error(networks.join(' '));
    }
    const links = await bed.inside('w1', ['ip', '-o', 'link']);
    const left = [...links.matchAll(/: (sh[0-9a-f]{4}[vw]\w*)/g)].map((match) => match[1]);
    if (left.length > 0) throw new Error(left.join(' '));
    return true;
  });
});
