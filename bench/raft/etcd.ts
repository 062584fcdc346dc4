import { spawn, type ChildProcess } from 'node:child_process';
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { directSpawner, must, runChecked } from '../../base/index.ts';
import { eventually, freePort } from './group.ts';

/** Room for what a run writes; etcd's own default is 2 GiB. */
const QUOTA_BYTES = 8 * 1024 ** 3;

function onPath(program: string): string | undefined {
  const dirs = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`.split(':');
  return dirs.map((dir) => join(dir, program)).find((file) => existsSync(file));
}

export interface EtcdPrograms {
  etcd: string;
  etcdctl: string;
}

/** etcd's programs, when both are installed. */
export function findEtcd(): EtcdPrograms | undefined {
  const etcd = onPath('etcd');
  const etcdctl = onPath('etcdctl');
  return etcd === undefined || etcdctl === undefined ? undefined : { etcd, etcdctl };
}

/** One member of etcd; killed and started again like ours. */
export class EtcdMember {
  readonly clientHost = '127.0.0.1';
  readonly clientPort: number;
  readonly #program: string;
  readonly #args: readonly string[];
  readonly #logFile: string;
  #child: ChildProcess | undefined;

  constructor(program: string, args: readonly string[], clientPort: number, logFile: string) {
    this.#program = program;
    this.#args = args;
    this.clientPort = clientPort;
    this.#logFile = logFile;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Starts the process, without waiting for it to answer. */
  // oxlint-disable-next-line require-await -- the same shape as our members
  async start(): Promise<void> {
    const log = openSync(this.#logFile, 'a');
    const child = spawn(this.#program, this.#args, { stdio: ['ignore', log, log] });
    closeSync(log);
    child.once('exit', () => {
      if (this.#child === child) this.#child = undefined;
    });
    this.#child = child;
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
    });
    child.kill('SIGKILL');
    await gone;
  }
}

/** Members of etcd with their packaged defaults, on 127.0.0.1 without TLS. */
export class EtcdCluster {
  readonly version: string;
  readonly members: readonly EtcdMember[];
  readonly #etcdctl: string;

  private constructor(version: string, etcdctl: string, members: EtcdMember[]) {
    this.version = version;
    this.#etcdctl = etcdctl;
    this.members = members;
  }

  static async form(programs: EtcdPrograms, dir: string, size: number): Promise<EtcdCluster> {
    const output = await runChecked(directSpawner, { file: programs.etcd, args: ['--version'] });
    const version = /etcd Version: (\S+)/.exec(output)?.[1] ?? 'unknown';
    const places: { name: string; client: number; peer: number }[] = [];
    for (let i = 1; i <= size; i++) places.push({ name: `e${i}`, client: await freePort(), peer: await freePort() });
    const initial = places.map(({ name, peer }) => `${name}=http://127.0.0.1:${peer}`).join(',');
    const members = places.map(({ name, client, peer }) => {
      const clients = `http://127.0.0.1:${client}`;
      const peers = `http://127.0.0.1:${peer}`;
      const args = [
        ...['--name', name, '--data-dir', join(dir, name)],
        ...['--listen-client-urls', clients, '--advertise-client-urls', clients],
        ...['--listen-peer-urls', peers, '--initial-advertise-peer-urls', peers],
        ...['--initial-cluster', initial, '--initial-cluster-state', 'new'],
        ...['--quota-backend-bytes', String(QUOTA_BYTES), '--logger', 'zap', '--log-level', 'error'],
      ];
      return new EtcdMember(programs.etcd, args, client, join(dir, `${name}.log`));
    });
    const cluster = new EtcdCluster(version, programs.etcdctl, members);
    try {
      for (const member of members) await member.start();
      await cluster.settled();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  /** The leader, once all members answer and agree on the term. */
  async settled(timeoutMs = 20_000): Promise<{ leader: EtcdMember; term: number }> {
    return await eventually('etcd settles', timeoutMs, async () => {
      try {
        return await this.#leader();
      } catch {
        return undefined;
      }
    });
  }

  async #leader(): Promise<{ leader: EtcdMember; term: number } | undefined> {
    const endpoints = this.members.map((member) => `127.0.0.1:${member.clientPort}`).join(',');
    // Fields: endpoint, id, version, size of the database, is leader, is learner, term, index, applied index, errors.
    const text = await runChecked(directSpawner, {
      file: this.#etcdctl,
      args: ['--endpoints', endpoints, 'endpoint', 'status', '-w', 'simple'],
      env: { PATH: process.env.PATH ?? '', ETCDCTL_API: '3' },
      timeoutMs: 10_000,
    });
    const rows = text.trim().split('\n');
    const fields = rows.map((row) => row.split(', '));
    const leading = fields.filter((row) => row[4] === 'true');
    const terms = new Set(fields.map((row) => row[6]));
    const [first] = leading;
    if (rows.length !== this.members.length || leading.length !== 1 || terms.size !== 1 || first === undefined) {
      return undefined;
    }
    const leader = this.members.find(({ clientPort }) => first[0] === `127.0.0.1:${clientPort}`);
    return { leader: must(leader, 'member of etcd'), term: Number(first[6]) };
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill()));
  }
}
