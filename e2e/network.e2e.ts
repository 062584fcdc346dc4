import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bodies, Bed, get, NO_NAME_SERVER, until } from './kit/index.ts';

/** Containers of services reach each other and are reached, across hosts. Services are made once, cases only look. */
const bed = new Bed('network');
let web = '';
const ALL = ['m1', 'w1', 'w2'];

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 2, daemonFlags: NO_NAME_SERVER });
  web = await bed.serveImages();
  for (const network of ['front', 'back']) await bed.client.run('network', 'create', '-d', 'overlay', network);
  const create = (...args: string[]): Promise<string> =>
    bed.client.run('service', 'create', '--detach', '--quiet', '--restart-delay', '1s', ...args);
  const port = ['--publish', '8080:80'];
  const onWorkers = ['--constraint', 'node.role==worker'];
  const onManager = ['--constraint', 'node.role==manager'];
  const alias = ['--network', 'name=front,alias=www'];
  await create('--name', 'web', '--replicas', '4', ...alias, ...port, ...onWorkers, `${web}:v1`);
  await create('--name', 'probe', '--network', 'front', ...onManager, `${web}:v1`);
  await create('--name', 'stranger', '--network', 'back', ...onManager, `${web}:v1`);
  await create('--name', 'both', '--network', 'front', '--network', 'back', ...onWorkers, `${web}:v1`);
  await create('--name', 'robin', '--endpoint-mode', 'dnsrr', '--network', 'front', '--replicas', '3', `${web}:v1`);
  const hostPort = ['--publish', 'mode=host,published=8081,target=80'];
  await create('--name', 'local', ...hostPort, '--constraint', 'node.hostname==w1', `${web}:v2`);
  await bed.replicas('web', 4);
  await bed.replicas('robin', 3);
  for (const service of ['probe', 'stranger', 'both', 'local']) await bed.replicas(service, 1);
});
afterAll(() => bed.down());

const fromProbe = async (...command: string[]): Promise<string> =>
  await bed.inTask(await bed.theTask('probe'), ...command);

/** IPv4 addresses that a name has inside the container of a service; empty when it has none. */
async function lookUp(name: string, service = 'probe'): Promise<string[]> {
  const task = await bed.theTask(service);
  const script = `nslookup -type=a ${name} 127.0.0.11 2>&1 || true`;
  const text = await bed.inTask(task, 'sh', '-c', script);
  const answers = text
    .split(/\n\s*\n/)
    .slice(1)
    .join('\n');
  return [...answers.matchAll(/^Address(?:\s\d+)?:\s*(\d+\.\d+\.\d+\.\d+)/gm)].map((match) => match[1] ?? '').sort();
}

interface Attached {
  NetworksAttachments: { Network: { Spec: { Name: string } }; Addresses: string[] }[];
}

async function addresses(service: string, network: string): Promise<string[]> {
  const tasks = (await bed.running(service)) as unknown as Attached[];
  return tasks
    .flatMap((task) => task.NetworksAttachments.filter((a) => a.Network.Spec.Name === network))
    .map((attachment) => (attachment.Addresses[0] ?? '').replace(/\/.*/, ''))
    .sort();
}

async function vips(service: string): Promise<string[]> {
  interface Service {
    Endpoint: { VirtualIPs?: { Addr: string }[] };
  }
  const found = await bed.client.inspect<Service>('service', 'inspect', service);
  return (found.Endpoint.VirtualIPs ?? []).map((vip) => vip.Addr.replace(/\/.*/, ''));
}

describe('names', () => {
  it('of a service stand for its virtual address, on another host too', async () => {
    const answer = await lookUp('web');
    expect(answer).toHaveLength(1);
    expect(await vips('web')).toContain(answer[0]);
  });

  it('with tasks. list every replica', async () => {
    const expected = await addresses('web', 'front');
    expect(expected).toHaveLength(4);
    expect(await lookUp('tasks.web')).toEqual(expected);
  });

  it('may be aliases', async () => {
    expect(await lookUp('www')).toEqual(await lookUp('web'));
    expect(await fromProbe('wget', '-q', '-O-', 'http://www/')).toMatch(/^v1 /);
  });

  it('of a service without virtual address list its replicas', async () => {
    expect(await vips('robin')).toEqual([]);
    expect(await lookUp('robin')).toEqual(await addresses('robin', 'front'));
  });

  it('unknown to the swarm do not resolve', async () => {
    expect(await lookUp('no-such-service')).toEqual([]);
  });
});

describe('the virtual address', () => {
  it('spreads connections over replicas on several hosts', async () => {
    const script = 'for i in $(seq 24); do wget -q -O- http://web/ || exit 1; done';
    const seen = new Set((await fromProbe('sh', '-c', script)).split('\n'));
    expect(seen.size).toBe(4);
    expect(new Set((await bed.running('web')).map((task) => task.NodeID)).size).toBe(2);
  });

  it('shows the caller itself, not a proxy, to the replica', async () => {
    const [own = ''] = await addresses('probe', 'front');
    expect(await fromProbe('wget', '-q', '-O-', 'http://web/cgi-bin/who')).toBe(own);
  });

  it('answers a replica that calls its own service', async () => {
    const [task] = await bed.running('web');
    const script = 'for i in $(seq 12); do wget -q -O- http://web/ || exit 1; done';
    const seen = new Set((await bed.inTask(task!, 'sh', '-c', script)).split('\n'));
    expect(seen.size).toBe(4);
  });

  it('follows the service when it is scaled', async () => {
    await bed.client.run('service', 'scale', '--detach', 'robin=1');
    await bed.replicas('robin', 1);
    await until('one address', 5_000, async () => (await lookUp('robin')).length === 1);
  });
});

describe('networks', () => {
  it('are isolated from each other', async () => {
    expect(await lookUp('web', 'stranger')).toEqual([]);
    const [target = ''] = await addresses('web', 'front');
    const stranger = await bed.theTask('stranger');
    const reached = await bed.inTask(stranger, 'sh', '-c', `nc -w 2 ${target} 80 </dev/null && echo yes || echo no`);
    expect(reached).toBe('no');
  });

  it('may be joined both by one service', async () => {
    const task = await bed.theTask('stranger');
    expect(await bed.inTask(task, 'wget', '-q', '-O-', 'http://both/')).toMatch(/^v1 /);
    expect(await fromProbe('wget', '-q', '-O-', 'http://both/')).toMatch(/^v1 /);
  });

  it('carry datagrams of full size between hosts', async () => {
    const [target = ''] = await addresses('web', 'front');
    expect(await fromProbe('ping', '-c', '2', '-W', '2', '-s', '8000', target)).toContain(' 0% packet loss');
  });

  it('are not removed while services use them', async () => {
    expect(await bed.client.fails('network', 'rm', 'front')).toMatch(/network \S+ is in use by service/);
  });
});

describe('published ports', () => {
  it.each(ALL)('answer on %s, whether it has a replica or not, by all replicas', async (host) => {
    const url = `http://${bed.address(host)}:8080/`;
    expect((await bodies(url, 24)).size).toBe(4);
  });

  it('tell the real address of the client to the replica', async () => {
    for (const host of ALL) {
      const url = `http://${bed.address(host)}:8080/cgi-bin/who`;
      for (const from of ALL.filter((name) => name !== host)) {
        const seen = await bed.inside(from, ['/bin/busybox', 'wget', '-q', '-O-', url]);
        expect(`${from} to ${host}: ${seen}`).toBe(`${from} to ${host}: ${bed.address(from)}`);
      }
    }
  });

  it('answer the host itself, at its address and at localhost', async () => {
    for (const address of [bed.address('w1'), '127.0.0.1']) {
      const text = await bed.inside('w1', ['/bin/busybox', 'wget', '-q', '-O-', `http://${address}:8080/`]);
      expect(text).toMatch(/^v1 /);
    }
  });

  it('of mode host answer on their host alone', async () => {
    expect(await get(`http://${bed.address('w1')}:8081/`)).toMatch(/^v2 /);
    for (const host of ['m1', 'w2']) {
      await expect(get(`http://${bed.address(host)}:8081/`)).rejects.toThrow(/ECONNREFUSED|no answer/);
    }
  });

  it('are given up when the service no longer publishes them', async () => {
    const flags = ['--detach', '--quiet', '--publish-rm', '80'];
    const add = ['--detach', '--quiet', '--publish-add', '8082:80'];
    await bed.client.run('service', 'update', ...flags, 'web');
    await until('port 8080 is closed', 20_000, () =>
      get(`http://${bed.address('m1')}:8080/`).then(
        () => false,
        () => true,
      ),
    );
    await bed.client.run('service', 'update', ...add, 'web');
    await until('port 8082 answers', 20_000, () => get(`http://${bed.address('m1')}:8082/`));
  });
});

describe('the end', () => {
  it('leaves nothing behind', async () => {
    await bed.down();
    expect(bed.lab.leftovers()).toEqual([]);
  });
});
