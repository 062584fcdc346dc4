import { afterAll, beforeAll, expect, it } from 'vitest';
import { Bed, until } from './kit/index.ts';

/** Attached containers while managers come and go, and on an encrypted network. */
const bed = new Bed('attachha');
const IMAGE = 'box:v1';

beforeAll(async () => {
  await bed.up({ managers: 3, workers: 1 });
  for (const host of ['m1', 'm2', 'm3', 'w1']) await bed.on(host).run('import', await bed.archive(), IMAGE);
});
afterAll(() => bed.down());

async function start(host: string, name: string, network: string): Promise<void> {
  const script = `mkdir /www; echo ${name} >/www/index.html; exec httpd -f -p 80 -h /www`;
  await bed.on(host).run('create', '--name', name, '--network', network, IMAGE, 'sh', '-c', script);
  await bed.on(host).run('start', name);
}

/** What a container gets from another by name. */
async function fetched(host: string, from: string, name: string): Promise<string> {
  const { State } = await bed.on(host).inspect<{ State: { Pid: number } }>('inspect', from);
  return bed.inProcess(State.Pid, 'wget', '-qO-', `http://${name}/`).catch(() => '');
}
const reaches = (host: string, from: string, name: string, ms: number): Promise<unknown> =>
  until(`${from} reaches ${name}`, ms, async () => (await fetched(host, from, name)) === name);

it('a follower’s container joins; places outlive the leader; new ones wait for the next', async () => {
  await bed.client.run('network', 'create', '-d', 'overlay', '--attachable', 'open');
  const leader = await bed.leader();
  const [second = '', third = ''] = ['m1', 'm2', 'm3'].filter((name) => name !== leader);
  await start(second, 'on-follower', 'open');
  await start('w1', 'on-worker', 'open');
  await reaches('w1', 'on-worker', 'on-follower', 10_000);
  await bed.lab.kill(leader);
  expect(await fetched('w1', 'on-worker', 'on-follower')).toBe('on-follower');
  // At once: the worker may still have to find the next leader.
  await start('w1', 'later', 'open');
  await reaches(second, 'on-follower', 'later', 15_000);
  expect(await fetched('w1', 'on-worker', 'on-follower')).toBe('on-follower');
  await bed.lab.start(leader);
  await until('the manager', 30_000, async () =>
    (await bed.nodes(third)).every((node) => node.Status.State === 'ready'),
  );
  await bed.on('w1').run('rm', '-f', 'later', 'on-worker');
  await bed.on(second).run('rm', '-f', 'on-follower');
  await until('the network to be free', 15_000, () => bed.on(third).run('network', 'rm', 'open'));
});

it('an encrypted network takes attached containers too', async () => {
  const create = ['network', 'create', '-d', 'overlay', '--attachable', '--opt', 'encrypted', 'sealed'];
  await bed.on('m2').run(...create);
  await start('m1', 'one', 'sealed');
  await start('w1', 'two', 'sealed');
  await reaches('w1', 'two', 'one', 20_000);
  await reaches('m1', 'one', 'two', 20_000);
});
