import { readFileSync } from 'node:fs';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { directSpawner, must, runChecked } from '../base/index.ts';
import { Bed, NO_NAME_SERVER, until, type TaskFacts } from './kit/index.ts';

/** An encrypted overlay between real containers, made with the stock client, while all that hosts send is recorded. */
const bed = new Bed('encrypted');
const MARK = 'PLAINTEXT-MARK';
/** UDP port of WireGuard: the data path port and one. */
const WIREGUARD_PORT = 4790;
const HOSTS = ['w1', 'w2'];
const captures = new Map<string, string>();

const record = (host: string): string => bed.file(`${host}.pcap`);

/** Runs a program of this machine in a task's network. */
async function inNetworkOf(task: TaskFacts, script: string): Promise<string> {
  const { PID } = must(task.Status.ContainerStatus, 'container');
  const args = ['--target', String(PID), '--net', 'sh', '-c', script];
  return (await runChecked(directSpawner, { file: 'nsenter', args, timeoutMs: 20_000 })).trimEnd();
}

const ask = async (): Promise<string> =>
  await bed.inTask(await bed.theTask('probe'), 'wget', '-q', '-O-', `http://web/cgi-bin/who?${MARK}`);

/** Whether a host listens for WireGuard. */
const listens = async (host: string): Promise<boolean> =>
  (await bed.inside(host, ['ss', '-lun'])).includes(`:${WIREGUARD_PORT} `);

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2, daemonFlags: NO_NAME_SERVER });
  const web = await bed.serveImages();
  for (const host of HOSTS) {
    const script = `setsid tcpdump -Z root -i any -U -s0 -w ${record(host)} >/dev/null 2>&1 & echo $!`;
    captures.set(host, await bed.inside(host, ['sh', '-c', script]));
  }
  await until('captures', 5_000, () => HOSTS.every((host) => readFileSync(record(host)).length > 0));
  await bed.client.run('network', 'create', '-d', 'overlay', '--opt', 'encrypted', 'vault');
  const create = (...args: string[]): Promise<string> =>
    bed.client.run('service', 'create', '--detach', '--quiet', '--network', 'vault', ...args);
  await create('--name', 'web', '--constraint', 'node.hostname==w2', `${web}:v1`);
  await create('--name', 'probe', '--constraint', 'node.hostname==w1', `${web}:v1`);
  for (const service of ['web', 'probe']) await bed.replicas(service, 1);
});
afterAll(() => bed.down());

it('is created by the stock client, and carries TCP and UDP between hosts', async () => {
  const network = await bed.client.inspect<{ Options: Record<string, string> }>('network', 'inspect', 'vault');
  expect(network.Options).toHaveProperty('encrypted');
  await until('an answer', 10_000, async () => (await ask()).startsWith('10.'));
  for (let i = 0; i < 5; i++) expect(await ask()).toMatch(/^10[.]/);
  const [web, probe] = [await bed.theTask('web'), await bed.theTask('probe')];
  const address = (await inNetworkOf(web, "ip -4 -o addr show eth0 | sed 's/.*inet //; s,/.*,,'")).trim();
  const listening = inNetworkOf(web, 'timeout 5 socat -u UDP4-RECVFROM:7000 -');
  await until('a listener', 5_000, async () => (await inNetworkOf(web, 'ss -lun')).includes(':7000 '));
  await inNetworkOf(probe, `echo ${MARK}-datagram | socat -u - UDP4-SENDTO:${address}:7000`);
  expect(await listening).toBe(`${MARK}-datagram`);
});

it('leaves smaller packets to its tasks', async () => {
  const link = await inNetworkOf(await bed.theTask('probe'), 'ip -o link show eth0');
  expect(Number(/mtu (\d+)/.exec(link)?.[1])).toBe(1370);
});

it('stands still when the WireGuard process of a host is killed, and heals', async () => {
  const link = async (): Promise<string> =>
    /wireguard-go",pid=(\d+)/.exec(await bed.inside('w1', ['ss', '-lunp']))?.[1] ?? '';
  const before = await link();
  // A kernel with WireGuard needs no process.
  if (before === '') return;
  await bed.inside('w1', ['kill', '-9', before]);
  await until('another process', 10_000, async () => !['', before].includes(await link()));
  await until('an answer', 15_000, async () => (await ask()).startsWith('10.'));
});

it('goes with its last task, and nothing of it was ever on the wire in clear', async () => {
  await bed.client.run('service', 'rm', 'web', 'probe');
  await until('the network is free', 20_000, () => bed.client.run('network', 'rm', 'vault'));
  await until('no WireGuard', 10_000, async () => !(await listens('w1')) && !(await listens('w2')));
  for (const [host, pid] of captures) await bed.inside(host, ['kill', pid]);
  for (const host of HOSTS) {
    const bytes = readFileSync(record(host));
    expect(bytes.includes(MARK), `${host} showed the mark`).toBe(false);
    const read = (filter: string): Promise<string> =>
      runChecked(directSpawner, { file: 'tcpdump', args: ['-Z', 'root', '-n', '-r', record(host), filter] });
    expect((await read(`udp port ${WIREGUARD_PORT}`)).split('\n').length).toBeGreaterThan(20);
    expect(await read('udp port 4789')).toBe('');
  }
});
