import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directSpawner, httpCall, httpJson, must, readText, runChecked, type SpawnRequest } from '../../base/index.ts';
import { Lab, writeBusyboxArchive, type HostFacts, type UpOptions } from '../../lab/index.ts';
import { Client, type ProgramName } from './client.ts';
import { until } from './until.ts';

/**
 * Web server that tells its version and container at `/`, the address it was called from at `/cgi-bin/who`, and takes a
 * second at `/cgi-bin/slow`. It ends at once when told to: what it has not answered by then is lost.
 */
const START = `#!/bin/sh
mkdir -p /var/www/cgi-bin
echo "$VERSION $(hostname)" >/var/www/index.html
printf '#!/bin/sh\\necho "Content-Type: text/plain"\\necho\\necho "$REMOTE_ADDR"\\n' >/var/www/cgi-bin/who
cat >/var/www/cgi-bin/slow <<'END'
#!/bin/sh
sleep 1
printf 'Content-Type: text/plain\\r\\n\\r\\nslow\\n'
END
chmod +x /var/www/cgi-bin/who /var/www/cgi-bin/slow
trap 'echo stopping; exit 0' TERM
echo "serving $VERSION"
httpd -f -p 0.0.0.0:80 -h /var/www &
wait
`;

/** Parts of a task that the cases look at. */
export interface TaskFacts {
  ID: string;
  Slot?: number;
  NodeID?: string;
  DesiredState: string;
  CreatedAt: string;
  Status: {
    State: string;
    Err?: string;
    Message?: string;
    ContainerStatus?: { ContainerID: string; PID: number; ExitCode: number };
  };
  Spec: { ContainerSpec?: { Image: string } };
}

export interface NodeFacts {
  ID: string;
  Description: { Hostname: string };
  Spec: { Availability: string; Role: string };
  Status: { State: string };
  ManagerStatus?: { Leader?: boolean; Reachability: string };
}

/**
 * Flags of a daemon whose containers ask nobody for names that are not its own: that is refused at once. The name servers of
 * this machine cannot be reached from lab hosts, and a program that asks them waits for 5 s or 10 s.
 */
export const NO_NAME_SERVER = ['--dns', '127.0.0.1'] as const;

/** A lab with clients: what every file of the suite begins with. */
export class Bed {
  readonly lab: Lab;
  readonly #dir = mkdtempSync(join(tmpdir(), 'shoal-e2e-'));
  hosts: HostFacts[] = [];
  /** Host that answers for the swarm when no other is named. */
  first = 'm1';
  /** `address:port` of the lab's registry. */
  registry = '';

  constructor(topic: string) {
    this.lab = new Lab(`e2e-${topic}-${process.pid}`);
  }

  async up(options: Partial<UpOptions>): Promise<void> {
    const all = { managers: 3, workers: 2, subnet: '', swarm: true, daemonFlags: [], ...options };
    this.hosts = await this.lab.up(all);
  }

  /** Takes everything down; for `afterAll`. */
  async down(): Promise<void> {
    rmSync(this.#dir, { recursive: true, force: true });
    await this.lab.down();
  }

  /** Resident memory of a host's daemon, MB. */
  daemonMb(name: string): number {
    const status = readFileSync(`/proc/${this.host(name).pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }

  host(name: string): HostFacts {
    return must(
      this.hosts.find((host) => host.name === name),
      `host ${name}`,
    );
  }

  address(name: string): string {
    return this.host(name).address;
  }

  on(name: string, program?: ProgramName): Client {
    return new Client(this.host(name).docker_host, program);
  }

  /** Client of the host that answers for the swarm. */
  get client(): Client {
    return this.on(this.first);
  }

  /** A file for this bed alone. */
  file(name: string): string {
    return join(this.#dir, name);
  }

  /** Answer of the API of a host. */
  async api<T>(path: string, host = this.first): Promise<T> {
    return await httpJson<T>({ host: this.host(host).docker_host, method: 'GET', path, timeoutMs: 5_000 });
  }

  /** HTTP status of a GET. */
  async status(path: string, host = this.first): Promise<number> {
    const answer = await httpCall({ host: this.host(host).docker_host, method: 'GET', path, timeoutMs: 10_000 });
    answer.body.resume();
    return answer.status;
  }

  /** Sends JSON to the API of a host; returns the answer, whatever its status. */
  async post(path: string, body: object, host = this.first): Promise<{ status: number; message?: string }> {
    const call = { host: this.host(host).docker_host, method: 'POST', path, body, timeoutMs: 10_000 };
    const answer = await httpCall(call);
    return { ...(JSON.parse((await readText(answer.body)) || '{}') as { message?: string }), status: answer.status };
  }

  /** Runs a command on a host; returns what it printed. @throws Error with its words unless it exits with 0 */
  async inside(name: string, command: readonly string[], more: Partial<SpawnRequest> = {}): Promise<string> {
    const result = await this.lab.capture(name, command, { timeoutMs: 30_000, ...more });
    const text = result.stdout.toString('utf8').trim();
    if (result.code !== 0) {
      throw new Error(`${name}: ${command.join(' ')}: exit ${result.code}\n${result.stderr.toString('utf8')}${text}`);
    }
    return text;
  }

  /** The archive of a root file system with busybox and the web server. */
  async archive(): Promise<string> {
    const path = this.file('busybox.tar');
    await writeBusyboxArchive(path, { 'start.sh': START });
    return path;
  }

  /** Starts the registry and pushes `web:v1` and `web:v2`; returns the name without tag. */
  async serveImages(): Promise<string> {
    this.registry = await this.lab.registry();
    const archive = await this.archive();
    for (const version of ['v1', 'v2']) {
      const image = `${this.registry}/web:${version}`;
      const changes = ['--change', `ENV VERSION=${version}`, '--change', 'CMD ["sh","/start.sh"]'];
      await this.client.run('import', ...changes, archive, image);
      await this.client.run('push', image);
    }
    return `${this.registry}/web`;
  }

  /** All tasks of a service, or those with a filter more. */
  async tasks(service: string, more: Record<string, string[]> = {}): Promise<TaskFacts[]> {
    const filters = encodeURIComponent(JSON.stringify({ service: [service], ...more }));
    return await this.api<TaskFacts[]>(`/tasks?filters=${filters}`);
  }

  /** Tasks of a service that run and shall run. */
  async running(service: string): Promise<TaskFacts[]> {
    const tasks = await this.tasks(service, { 'desired-state': ['running'] });
    return tasks.filter((task) => task.Status.State === 'running');
  }

  /** Waits until exactly `count` tasks of a service run, and returns them. */
  async replicas(service: string, count: number, timeoutMs = 30_000): Promise<TaskFacts[]> {
    return await until(`${service} ${count}/${count}`, timeoutMs, async () => {
      const tasks = await this.running(service);
      const states = (await this.tasks(service)).map(
        (t) => `${t.DesiredState}/${t.Status.State}:${t.Status.Err ?? ''}`,
      );
      if (tasks.length !== count) throw new Error(`${tasks.length} run; ${[...new Set(states)].slice(-6).join(' ')}`);
      return tasks;
    });
  }

  async nodes(host = this.first): Promise<NodeFacts[]> {
    return await this.api<NodeFacts[]>('/nodes', host);
  }

  /** The node of a host as the swarm sees it. */
  async node(name: string, host = this.first): Promise<NodeFacts> {
    const found = (await this.nodes(host)).find((node) => node.Description.Hostname === name);
    return must(found, `node ${name}`);
  }

  /** Name of the host that leads, as `host` sees it. */
  async leader(host = this.first): Promise<string> {
    return await until('a leader', 20_000, async () => {
      const nodes = await this.nodes(host);
      return nodes.find((node) => node.ManagerStatus?.Leader === true)?.Description.Hostname;
    });
  }

  /** Hostname of the node of a task. */
  async hostOf(task: TaskFacts): Promise<string> {
    const node = (await this.nodes()).find((candidate) => candidate.ID === task.NodeID);
    return must(node, `node of task ${task.ID}`).Description.Hostname;
  }

  /** Runs a command in the namespaces of a task's container, as root; returns what it printed. */
  async inTask(task: TaskFacts, ...command: string[]): Promise<string> {
    return await this.inProcess(must(task.Status.ContainerStatus, `container of task ${task.ID}`).PID, ...command);
  }

  /** Runs a command in the namespaces of a process, as root; returns what it printed. */
  async inProcess(pid: number, ...command: string[]): Promise<string> {
    const spaces = ['--mount', '--net', '--uts', '--ipc', '--pid', '--root', '--wd'];
    const args = ['--target', String(pid), ...spaces, '--', ...command];
    return (await runChecked(directSpawner, { file: 'nsenter', args, timeoutMs: 20_000 })).trimEnd();
  }

  /** The only running task of a service. */
  async theTask(service: string, timeoutMs?: number): Promise<TaskFacts> {
    return must((await this.replicas(service, 1, timeoutMs))[0], 'task');
  }

  /** Field of /proc/PID/stat that tells when a process started: the same pid and time is the same process. */
  startTime(pid: number): string {
    return must(
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ')[19],
      'start time',
    );
  }
}
