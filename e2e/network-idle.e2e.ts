import { spawn, type ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { must, systemClock } from '../base/index.ts';
import { Bed, endGroups, NO_NAME_SERVER, until } from './kit/index.ts';

/**
 * An idle connection lives as long as the kernel's own connection tracking lets it: Swarm's IPVS cuts after 15 minutes. The
 * tracking time is shortened, not waited for; with the kernel's default (5 days) the same holds for 20 minutes.
 */
const bed = new Bed('idle');
const PORT = 9000;
const PUBLISHED = 9100;
const TRACKED_S = 8;
const IDLE_S = 6;
const TWENTY_MINUTES_S = 1200;
const TIMEOUT = '/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_established';
const HOSTS = ['m1', 'w1', 'w2'];
const servers: ChildProcess[] = [];
let clientPid = 0;
let serverPid = 0;
/** Commands that enter each namespace in which a connection of the cases is tracked. */
const tracked: (readonly [host: string, enter: readonly string[]])[] = [];

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2, daemonFlags: NO_NAME_SERVER });
  const web = await bed.serveImages();
  await bed.client.run('network', 'create', '-d', 'overlay', 'app');
  const on = async (host: string, name: string, ...args: string[]): Promise<number> => {
    const where = ['--constraint', `node.hostname==${host}`, '--network', 'app'];
    await bed.client.run('service', 'create', '--detach', '--quiet', '--name', name, ...where, ...args, `${web}:v1`);
    return must((await bed.theTask(name)).Status.ContainerStatus, name).PID;
  };
  serverPid = await on('w1', 'server', '--publish', `${PUBLISHED}:${PORT}`);
  clientPid = await on('w2', 'client');
  const listen = ['socat', `TCP4-LISTEN:${PORT},fork,reuseaddr`, 'EXEC:cat'];
  const args = ['--target', String(serverPid), '--net', ...listen];
  servers.push(spawn('nsenter', args, { stdio: 'ignore', detached: true }));
  await until('the server listens', 5000, async () =>
    (await bed.inProcess(serverPid, 'netstat', '-ltn')).includes(`:${PORT} `),
  );
  for (const pid of [clientPid, serverPid]) tracked.push(['m1', ['nsenter', '--target', String(pid), '--net']]);
  for (const host of HOSTS) {
    tracked.push([host, []]);
    // Other tests' mounts may be seen here, too.
    const own = `${bed.lab.names.hostRunDir(host)}/exec/netns/ingress`;
    const found = await bed.inside(host, ['grep', '-o', own, '/proc/self/mounts']);
    tracked.push([host, ['nsenter', `--net=${must(found || undefined, `ingress namespace of ${host}`)}`]]);
  }
}, 90_000);
afterAll(async () => {
  endGroups(servers);
  await bed.down();
});

interface Connection {
  /** Sends a word; resolves when it has come back. @throws Error when it does not within 3 s */
  echo(word: string): Promise<void>;
}

function connect(command: string, args: readonly string[]): Connection {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'ignore'], detached: true });
  servers.push(child);
  let heard = '';
  child.stdout.on('data', (data: Buffer) => (heard += data.toString()));
  child.stdin.on('error', () => undefined);
  return {
    echo: async (word) => {
      child.stdin.write(`${word}\n`);
      await until(`${word} comes back`, 3000, () => heard.includes(`${word}\n`));
    },
  };
}

it('the kernel tracks idle connections for longer than 20 minutes in every namespace of ours', async () => {
  for (const [host, enter] of tracked) {
    expect(Number(await bed.inside(host, [...enter, 'cat', TIMEOUT]))).toBeGreaterThan(TWENTY_MINUTES_S);
  }
});

it('connections by virtual address and by another host live through most of that time, again and again', async () => {
  for (const [host, enter] of tracked) await bed.inside(host, [...enter, 'sh', '-c', `echo ${TRACKED_S} >${TIMEOUT}`]);
  const enter = ['--target', String(clientPid), '--net'];
  const vip = await bed.inTask(await bed.theTask('client'), 'sh', '-c', 'nslookup -type=a server 127.0.0.11 | tail -3');
  const address = must(/Address(?: 1)?: (\d+\.\d+\.\d+\.\d+)/.exec(vip)?.[1], 'virtual address');
  // From this machine, which reaches the lab's hosts: in by w2, which has no such task.
  const published = connect('socat', ['-', `TCP4:${bed.address('w2')}:${PUBLISHED}`]);
  const balanced = connect('nsenter', [...enter, 'socat', '-', `TCP4:${address}:${PORT}`]);
  for (const word of ['first', 'second', 'third']) {
    for (const connection of [published, balanced]) await connection.echo(word);
    if (word !== 'third') await systemClock.sleep(IDLE_S * 1000);
  }
}, 60_000);
