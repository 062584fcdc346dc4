import { spawn, type ChildProcess } from 'node:child_process';
import { directSpawner, httpCall, must, readText, systemClock } from '../../base/index.ts';
import { Bed, NO_NAME_SERVER } from './bed.ts';
import { LongLived } from './long-lived.ts';
import { endGroups } from './processes.ts';
import { until } from './until.ts';

/** What the issue promises of every repair, ms. */
export const HEALED_WITHIN_MS = 5_000;
const PORT = 9000;
const ECHO_PORT = 9001;
const PUBLISHED = 9100;
const ECHO_PUBLISHED = 9101;
const HOST_PUBLISHED = 9200;
/** Time for all questions of one place, s. */
const ASK_S = 1.5;

interface Question {
  name: string;
  script: string;
}

const NETWORKS = ['app', 'vault'] as const;
export type NetworkName = (typeof NETWORKS)[number];
type Family = 4 | 6;

interface Attached {
  NetworksAttachments?: { Network: { Spec: { Name: string } }; Addresses: string[] }[];
}
interface Service {
  Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] };
}

/**
 * Hosts with a plain overlay of both families (`app`) and an encrypted one (`vault`); a server on w2 with a published
 * port, a client on w1 and one on w2; and everything that a network promises, to be asked again and again.
 */
export class NetworkBed extends Bed {
  readonly #programs: ChildProcess[] = [];
  readonly connections: LongLived[] = [];
  readonly #tasks = new Map<string, string>();
  readonly #pids = new Map<string, number>();
  readonly #ids = new Map<string, string>();
  /** Addresses of the server by network and family, its virtual addresses as `vip4` and `vip6`. */
  readonly addresses = new Map<string, string>();

  async make(managers: number): Promise<void> {
    await this.up({ managers, workers: 2, daemonFlags: NO_NAME_SERVER });
    // The lab's hosts have IPv4 only.
    for (const [i, { name }] of this.hosts.entries()) await this.giveAddress6(name, i);
    const web = await this.serveImages();
    await this.client.run('network', 'create', '-d', 'overlay', '--ipv6', 'app');
    await this.client.run('network', 'create', '-d', 'overlay', '--opt', 'encrypted', 'vault');
    const on = async (host: string, name: string, ...args: string[]): Promise<void> => {
      const where = ['--constraint', `node.hostname==${host}`, '--network', 'app', '--network', 'vault'];
      const flags = ['--detach', '--quiet', '--restart-delay', '100ms'];
      await this.client.run('service', 'create', ...flags, '--name', name, ...where, ...args, `${web}:v1`);
    };
    await on('w2', 'server', '--publish', `${PUBLISHED}:${PORT}`, '--publish', `${ECHO_PUBLISHED}:${ECHO_PORT}`);
    await on('w1', 'client', '--publish', `mode=host,published=${HOST_PUBLISHED},target=${PORT}`);
    await on('w2', 'near');
    for (const name of NETWORKS) {
      this.#ids.set(name, (await this.client.inspect<{ Id: string }>('network', 'inspect', name)).Id);
    }
    await this.find('server', 'client', 'near');
    await this.serve();
  }

  async giveAddress6(host: string, index: number): Promise<void> {
    await this.inside(host, ['ip', 'addr', 'add', `fd00:77::${index + 1}/64`, 'dev', 'eth0', 'nodad']);
  }

  address6(host: string): string {
    return `fd00:77::${this.hosts.findIndex(({ name }) => name === host) + 1}`;
  }

  /** Ends what runs in the tasks' networks and is no container's: it would keep them from ending. */
  endPrograms(): void {
    for (const connection of this.connections.splice(0)) connection.end();
    endGroups(this.#programs.splice(0));
  }

  override async down(): Promise<void> {
    this.endPrograms();
    await super.down();
  }

  /** Waits until another task than the one that was noted runs. */
  async replaced(service: string): Promise<void> {
    await until(`another task of ${service}`, 20_000, async () => {
      return (await this.theTask(service)).ID !== this.#tasks.get(service);
    });
  }

  /** Notes processes, and of the server the addresses, of the tasks that run by now. */
  async find(...services: string[]): Promise<void> {
    for (const service of services) {
      const task = await this.theTask(service);
      this.#tasks.set(service, task.ID);
      this.#pids.set(service, must(task.Status.ContainerStatus, service).PID);
      if (service !== 'server') continue;
      for (const { Network, Addresses } of (task as unknown as Attached).NetworksAttachments ?? []) {
        for (const address of Addresses) this.addresses.set(`${Network.Spec.Name}${family(address)}`, bare(address));
      }
      const { Endpoint } = await this.client.inspect<Service>('service', 'inspect', 'server');
      for (const { NetworkID, Addr } of Endpoint.VirtualIPs) {
        if (NetworkID === this.#ids.get('app')) this.addresses.set(`vip${family(Addr)}`, bare(Addr));
      }
    }
  }

  pid(service: string): number {
    return must(this.#pids.get(service), service);
  }

  serverAddress(key: string): string {
    return must(this.addresses.get(key), `address ${key} of the server`);
  }

  /** Servers in tasks' networks: ones that say who they are, over TCP and UDP, and one that repeats. */
  async serve(): Promise<void> {
    const start = (service: string, ...args: string[]): void => {
      const enter = ['--target', String(this.pid(service)), '--net', 'socat', ...args];
      this.#programs.push(spawn('nsenter', enter, { stdio: 'ignore', detached: true }));
    };
    for (const service of ['server', 'client']) {
      start(service, `TCP6-LISTEN:${PORT},ipv6only=0,fork,reuseaddr`, 'EXEC:echo server');
      start(service, `UDP6-RECVFROM:${PORT},ipv6only=0,fork`, 'SYSTEM:read x; echo server');
      start(service, `TCP6-LISTEN:${ECHO_PORT},ipv6only=0,fork,reuseaddr`, 'EXEC:cat');
      await until('servers', 5000, async () => {
        const table = await this.inProcess(this.pid(service), 'netstat', '-ltun');
        return [...table.matchAll(/:(9000|9001) /g)].length === 3;
      });
    }
  }

  /** Opens a connection that stays: from the client's network by address, virtual address, encrypted; and from outside. */
  connect(entry: string): void {
    const inside = (name: string, address: string): LongLived => {
      const target = `TCP${family(address)}:${address.includes(':') ? `[${address}]` : address}:${ECHO_PORT}`;
      return new LongLived(name, 'nsenter', ['--target', String(this.pid('client')), '--net', 'socat', '-', target]);
    };
    this.connections.push(
      inside('connection by address', this.serverAddress('app4')),
      inside('connection by IPv6 virtual address', this.serverAddress('vip6')),
      inside('encrypted connection', this.serverAddress('vault4')),
      new LongLived('connection by ingress', 'socat', ['-', `TCP4:${this.address(entry)}:${ECHO_PUBLISHED}`]),
    );
  }

  /** Closes a connection that stays; it is asked for no more. */
  endConnection(name: string): void {
    const found = this.connections.findIndex((connection) => connection.name === name);
    for (const connection of this.connections.splice(found, found < 0 ? 0 : 1)) connection.end();
  }

  /** Runs a program in a named network namespace of a host's daemon: `secure`, `ingress`, or a network's. */
  async inNetwork(host: string, network: NetworkName | 'secure' | 'ingress', script: string): Promise<string> {
    const id = this.#ids.get(network);
    const name = id === undefined ? network : `ov-${id.slice(0, 12)}`;
    const path = `${this.lab.names.hostRunDir(host)}/exec/netns/${name}`;
    return await this.inside(host, ['nsenter', `--net=${path}`, 'sh', '-c', script]);
  }

  /** Runs a program of this machine in a task's network. */
  async inTaskNetwork(service: string, script: string): Promise<string> {
    const args = ['--target', String(this.pid(service)), '--net', 'sh', '-c', script];
    const result = await directSpawner.run({ file: 'nsenter', args, timeoutMs: 20_000 });
    if (result.code !== 0) throw new Error(`${script}: ${result.stderr.toString('utf8')}`);
    return result.stdout.toString('utf8').trim();
  }

  /** Messages of the repairs that a host's daemon tells of in its events, since a time (ms since 1970). */
  async repairs(host: string, sinceMs: number): Promise<string[]> {
    const filters = encodeURIComponent(JSON.stringify({ type: ['network'], event: ['repair'] }));
    const times = `since=${(sinceMs / 1000).toFixed(3)}&until=${(systemClock.now() / 1000).toFixed(3)}`;
    const path = `/events?${times}&filters=${filters}`;
    const call = { host: this.host(host).docker_host, method: 'GET', path, timeoutMs: 5_000 };
    const lines = (await readText((await httpCall(call)).body)).split('\n').filter((line) => line !== '');
    return lines.map(
      (line) => (JSON.parse(line) as { Actor: { Attributes: { message: string } } }).Actor.Attributes.message,
    );
  }

  /** All that shall hold, by the place that it is asked from: a service's task, or a host. */
  #questions(entries: readonly string[]): Map<string, Question[]> {
    const questions = new Map<string, Question[]>();
    const first = must(entries[0], 'entry');
    for (const service of ['client', 'near']) {
      const own = ['app4', 'app6', 'vip4', 'vip6', 'vault4'].map((key): Question => {
        return { name: `${key} from ${service}`, script: question('tcp', this.serverAddress(key), PORT) };
      });
      own.push({ name: `UDP from ${service}`, script: question('udp', this.serverAddress('app4'), PORT) });
      // On which of its networks a service is found first is not the matter here.
      const known = `${this.serverAddress('app4')}|${this.serverAddress('vault4')}`;
      const look = `busybox nslookup tasks.server 127.0.0.11 2>&1 | grep -qE '${known}' && answer=server`;
      own.push({ name: `name from ${service}`, script: look });
      own.push({ name: `outward from ${service}`, script: question('tcp', this.address(first), PUBLISHED) });
      questions.set(service, own);
    }
    const ports = (where: string, hosts: readonly string[], address: (host: string) => string): void => {
      const own = hosts.map((host): Question => {
        return { name: `port at ${address(host)} of ${host}`, script: question('tcp', address(host), PUBLISHED) };
      });
      questions.set(where, own);
    };
    ports('', entries, (host) => this.address(host));
    questions.get('')?.push({ name: 'port of w1 alone', script: question('tcp', this.address('w1'), HOST_PUBLISHED) });
    const six = entries.filter((host) => host.startsWith('w'));
    ports(first, six, (host) => this.address6(host));
    return questions;
  }

  /** Asks everything once. @returns names of what does not hold */
  async failing(entries = this.hosts.map(({ name }) => name)): Promise<string[]> {
    const places = [...this.#questions(entries)].map(async ([where, questions]) => {
      const tasks = questions.map(({ name, script }) => `(${script}; [ "$answer" = server ] && echo '${name}') &`);
      const command = ['timeout', String(ASK_S), 'bash', '-c', `${tasks.join('\n')}\nwait`];
      const pid = this.#pids.get(where);
      const enter = pid === undefined ? [] : ['nsenter', '--target', String(pid), '--net'];
      const [file = '', ...args] = [...enter, ...command];
      const host = this.hosts.find(({ name }) => name === where)?.name;
      const result =
        host === undefined
          ? await directSpawner.run({ file, args, timeoutMs: 10_000 })
          : await this.lab.capture(host, command, { timeoutMs: 10_000 });
      const answered = new Set(result.stdout.toString('utf8').split('\n'));
      return questions.map(({ name }) => name).filter((name) => !answered.has(name));
    });
    return (await Promise.all(places)).flat();
  }

  /**
   * Waits until everything holds at once, asked not later than `withinMs` from now. @returns when it was asked, ms from now
   * @throws Error naming what does not hold
   */
  async holds(withinMs: number = HEALED_WITHIN_MS, entries?: readonly string[]): Promise<number> {
    const began = systemClock.monotonic();
    for (;;) {
      const asked = systemClock.monotonic() - began;
      const failing = await this.failing(entries === undefined ? undefined : [...entries]);
      if (failing.length === 0 && asked <= withinMs) return asked;
      if (asked > withinMs) throw new Error(`after ${Math.round(asked)} ms: ${failing.join(', ') || 'all too late'}`);
    }
  }

  /** Every connection that was opened has all it sent. */
  async connectionsLive(withinMs: number = HEALED_WITHIN_MS): Promise<void> {
    await Promise.all(this.connections.map((connection) => connection.lives(withinMs)));
  }
}

const bare = (address: string): string => address.replace(/\/.*/, '');
const family = (address: string): Family => (address.includes(':') ? 6 : 4);

/** A bash script that sets `answer` to what a server says. */
function question(protocol: 'tcp' | 'udp', address: string, port: number): string {
  const open = `exec 3<>/dev/${protocol}/${address}/${port}`;
  // To a server of TCP nothing is sent: a connection closed with bytes unread is reset, and the answer lost with it. Of UDP,
  // bash would read one byte of the datagram and lose the others.
  return protocol === 'tcp' ? `${open} && read -r -u 3 answer` : `${open} && echo x >&3 && answer=$(head -n 1 <&3)`;
}
