import { closeSync, fsyncSync, mkdirSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { loadavg, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Lab, leftovers } from '../../lab/index.ts';
import { median } from '../measure.ts';
import { calmFaults, killLeaders, type CalmResult, type KillResult } from './elections.ts';
import { EtcdCluster, findEtcd, type EtcdPrograms } from './etcd.ts';
import { footprint } from './footprint.ts';
import { buildMember, Group } from './group.ts';
import { CONNECTIONS_MAX, KEYS, VALUE_BYTES } from './load.ts';
import { printRaft } from './print.ts';
import type { RaftResult, Stamp } from './result.ts';
import { throughput, type ThroughputResult } from './throughput.ts';
import { machineFacts } from '../machine.ts';
import { resultsFile, storedResult, storeResult } from '../results.ts';

const ROOT = join(dirname(fileURLToPath(import.meta.url)), '..', '..');
const MEMBERS = 3;
const SYNCS = 200;
/** etcd's own elections are measured beside, with fewer kills: they are not what is promised. */
const ETCD_KILLS_MAX = 20;
const RAFT_PORT = 7001;
const CLIENT_PORT = 7002;

export const PARTS = ['throughput', 'elections', 'footprint'] as const;
export type Part = (typeof PARTS)[number];

export interface RaftBenchOptions {
  parts: readonly Part[];
  runs: number;
  /** Measured time of each load. */
  seconds: number;
  kills: number;
  /** Measure our side only, even where etcd is installed. */
  shoalOnly: boolean;
  signal: AbortSignal;
}

function stamp(): Stamp {
  return { date: new Date().toISOString(), loadBefore: loadavg()[0] ?? 0 };
}

/** Measures, prints the table and stores the figures. */
export async function raftBench(options: RaftBenchOptions): Promise<void> {
  const scratch = mkdtempSync(join(tmpdir(), 'shoal-bench-'));
  const programs = options.shoalOnly ? undefined : findEtcd();
  if (programs === undefined) {
    console.log(
      'etcd is not measured: it is not installed (Debian: etcd-server, etcd-client), or --shoal-only was given.',
    );
  }
  try {
    const program = await buildMember(ROOT, scratch);
    const run = new Run(options, scratch, program, programs);
    const result = await run.all();
    storeResult('raft', result);
    printRaft(result);
    console.log(`Stored in ${resultsFile('raft')}`);
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

class Run {
  readonly #options: RaftBenchOptions;
  readonly #dir: string;
  readonly #program: string;
  readonly #programs: EtcdPrograms | undefined;

  constructor(options: RaftBenchOptions, dir: string, program: string, programs: EtcdPrograms | undefined) {
    this.#options = options;
    this.#dir = dir;
    this.#program = program;
    this.#programs = programs;
  }

  async all(): Promise<RaftResult> {
    const { parts } = this.#options;
    const before = storedResult('raft') as RaftResult | undefined;
    const result: RaftResult = {
      benchmark: 'raft',
      machine: machine(this.#dir),
      what:
        `${MEMBERS} processes of each side on this machine, logs synced to the same disk, values of ${VALUE_BYTES} bytes, ` +
        `${KEYS} keys; a client has one request outstanding, all are outside the members and speak to the leader by gRPC ` +
        `(etcdserverpb.KV, plaintext, ${CONNECTIONS_MAX} connections at the most); both sides in turns, medians of the runs`,
      etcdVersion: before?.etcdVersion ?? null,
      throughput: before?.throughput ?? null,
      elections: before?.elections ?? null,
      footprint: before?.footprint ?? null,
    };
    if (parts.includes('throughput')) {
      const at = stamp();
      const { measured, etcdVersion } = await this.#throughput();
      result.throughput = { ...at, ...measured };
      result.etcdVersion = etcdVersion;
    }
    if (parts.includes('footprint')) {
      const at = stamp();
      result.footprint = {
        ...at,
        ...(await footprint(join(this.#dir, 'footprint'), this.#program, this.#options.signal)),
      };
    }
    if (parts.includes('elections')) {
      const at = stamp();
      result.elections = {
        ...at,
        ...(await this.#elections()),
        etcd: await this.#etcdElections(),
      };
    }
    return result;
  }

  async #throughput(): Promise<{
    measured: ThroughputResult;
    etcdVersion: string | null;
  }> {
    const { runs, seconds, signal } = this.#options;
    const nodeFlags = process.env['SHOAL_BENCH_NODE_FLAGS']?.split(' ') ?? [];
    const group = await Group.form({
      dir: join(this.#dir, 'shoal'),
      program: this.#program,
      members: MEMBERS,
      library: true,
      nodeFlags,
    });
    let etcd: EtcdCluster | null = null;
    try {
      if (this.#programs !== undefined) etcd = await this.#etcd('etcd');
      const measured = await throughput(group, etcd, runs, seconds * 1000, signal);
      return { measured, etcdVersion: etcd?.version ?? null };
    } finally {
      await etcd?.stop();
      await group.stop();
    }
  }

  async #etcd(name: string): Promise<EtcdCluster> {
    const dir = join(this.#dir, name);
    mkdirSync(dir);
    if (this.#programs === undefined) throw new Error('etcd is not installed');
    return await EtcdCluster.form(this.#programs, dir, MEMBERS);
  }

  /** Members on lab hosts, so that one can be cut off from the others. */
  async #elections(): Promise<{ shoal: KillResult; calm: CalmResult[] }> {
    const { kills, signal } = this.#options;
    const lab = new Lab(`bench-raft-${process.pid}`);
    let group: Group | undefined;
    try {
      const up = {
        managers: MEMBERS,
        workers: 0,
        subnet: '',
        swarm: false,
        daemonFlags: [],
        daemons: false,
      };
      const hosts = await lab.up(up);
      group = await Group.form({
        dir: join(this.#dir, 'elections'),
        program: this.#program,
        members: MEMBERS,
        place: (id) => ({
          host: hosts[id - 1]?.address ?? '',
          enter: ['nsenter', '--target', String(lab.holder(`m${id}`)), '--net', '--'],
          ports: { raft: RAFT_PORT, client: CLIENT_PORT },
        }),
      });
      const calm = await calmFaults(group, lab, signal);
      const shoal = await killLeaders(group, kills, signal);
      return { shoal, calm };
    } finally {
      await group?.stop();
      await lab.down();
      const left = leftovers(lab.names);
      if (left.length > 0) console.error(`left behind by ${lab.names.name}: ${left.join(', ')}`);
    }
  }

  async #etcdElections(): Promise<KillResult | null> {
    if (this.#programs === undefined) return null;
    const etcd = await this.#etcd('etcd-elections');
    try {
      return await killLeaders(etcd, Math.min(ETCD_KILLS_MAX, this.#options.kills), this.#options.signal);
    } finally {
      await etcd.stop();
    }
  }
}

function machine(dir: string): RaftResult['machine'] {
  return { ...machineFacts(), syncMedianMs: syncMedianMs(dir) };
}

/** Time of a small write with fsync on the disk that holds the logs, ms. */
function syncMedianMs(dir: string): number {
  const file = openSync(join(dir, 'sync'), 'w');
  const bytes = Buffer.alloc(512, 1);
  const times: number[] = [];
  try {
    for (let i = 0; i < SYNCS; i++) {
      const began = performance.now();
      writeSync(file, bytes, 0, bytes.length, 0);
      fsyncSync(file);
      times.push(performance.now() - began);
    }
  } finally {
    closeSync(file);
  }
  return median(times);
}
