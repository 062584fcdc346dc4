import { fork, type ChildProcess } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { build } from 'esbuild';
import { must, ShoalError, systemClock, type Timer } from '../../base/index.ts';
import type { MemberAnswer, MemberMemory, MemberQuestion, MemberSettings, MemberStatus } from './member-protocol.ts';

type Question = MemberQuestion extends infer Q ? (Q extends { number: number } ? Omit<Q, 'number'> : never) : never;

const START_TIMEOUT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 20_000;
const FORM_TIMEOUT_MS = 10_000;
const POLL_MS = 10;

/** Bundles the member's program into `dir`, as the daemon is bundled; a member then starts in a fraction of a second. */
export async function buildMember(root: string, dir: string): Promise<string> {
  const outfile = join(dir, 'member.mjs');
  await build({
    absWorkingDir: root,
    entryPoints: [join(root, 'bench', 'raft', 'member.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: 'node20',
    // Nothing of these is used by a member.
    external: ['koffi', 'level', 'classic-level'],
    banner: {
      js: "import { createRequire as __createRequire } from 'node:module'; const require = __createRequire(import.meta.url);",
    },
    logLevel: 'warning',
  });
  return outfile;
}

/** A port of 127.0.0.1 that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise<void>((resolve) => server.close(() => resolve()));
  return typeof address === 'object' && address !== null ? address.port : 0;
}

/** How the process of a member is run. */
export interface MemberRun {
  program: string;
  nodeFlags: readonly string[];
  /** Words before the program, e.g. `nsenter … --`; none runs it directly. */
  enter: readonly string[];
}

interface Asked {
  resolve: (value: unknown) => void;
  reject: (error: Error) => void;
  limit: Timer;
}

/** One member and its process, which may be killed and started again. */
export class Member {
  readonly settings: MemberSettings;
  readonly #run: MemberRun;
  #child: ChildProcess | undefined;
  #number = 0;
  #asked = new Map<number, Asked>();
  /** Of the last start: time of RaftNode.start, ms, and what was applied after it. */
  started = { startMs: 0, applied: 0 };

  constructor(settings: MemberSettings, run: MemberRun) {
    this.settings = settings;
    this.#run = run;
  }

  get id(): number {
    return this.settings.id;
  }

  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  get clientPort(): number {
    return Number(this.settings.clientAddress.split(':')[1]);
  }

  get libraryPort(): number {
    return Number(this.settings.libraryAddress?.split(':')[1]);
  }

  get clientHost(): string {
    return must(this.settings.clientAddress.split(':')[0], 'host');
  }

  /** Starts the process and waits until the member takes part. */
  async start(): Promise<void> {
    mkdirSync(this.settings.dir, { recursive: true });
    const { program, nodeFlags, enter } = this.#run;
    const words = [...enter, process.execPath];
    const child = fork(program, [JSON.stringify(this.settings)], {
      execPath: must(words[0], 'program'),
      execArgv: [...words.slice(1), ...nodeFlags],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    this.#child = child;
    child.on('message', (answer: MemberAnswer) => this.#heard(answer));
    child.on('exit', () => {
      if (this.#child === child) this.#child = undefined;
      for (const { reject, limit } of this.#asked.values()) {
        limit.cancel();
        reject(new ShoalError('Unavailable', `member ${this.id} ended`));
      }
      this.#asked.clear();
    });
    await this.#wait(0, START_TIMEOUT_MS);
  }

  /** Until the answer of this number comes. */
  #wait(number: number, timeoutMs: number): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const limit = systemClock.after(timeoutMs, () => {
        this.#asked.delete(number);
        reject(new ShoalError('DeadlineExceeded', `member ${this.id} does not answer`));
      });
      this.#asked.set(number, { resolve, reject, limit });
    });
  }

  #heard(answer: MemberAnswer): void {
    const number = 'ready' in answer ? 0 : answer.number;
    const asked = this.#asked.get(number);
    this.#asked.delete(number);
    asked?.limit.cancel();
    if ('ready' in answer) {
      this.started = { startMs: answer.startMs, applied: answer.applied };
      asked?.resolve(undefined);
    } else if ('error' in answer) {
      asked?.reject(new ShoalError('Unavailable', answer.error));
    } else {
      asked?.resolve(answer.value);
    }
  }

  async #ask(question: Question): Promise<unknown> {
    const child = this.#child;
    if (child === undefined) throw new ShoalError('Unavailable', `member ${this.id} does not run`);
    const number = ++this.#number;
    const answer = this.#wait(number, ANSWER_TIMEOUT_MS);
    child.send({ ...question, number });
    return await answer;
  }

  async status(): Promise<MemberStatus> {
    return (await this.#ask({ kind: 'status' })) as MemberStatus;
  }

  async memory(): Promise<MemberMemory> {
    return (await this.#ask({ kind: 'memory' })) as MemberMemory;
  }

  async add(other: Member): Promise<void> {
    await this.#ask({
      kind: 'add',
      id: other.id,
      address: other.settings.raftAddress,
    });
  }

  async stallDisk(ms: number): Promise<void> {
    await this.#ask({ kind: 'stall', ms });
  }

  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }

  /** SIGKILL, and waits until the process is gone. */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const gone = new Promise<void>((resolve) => {
      child.once('exit', () => resolve());
    });
    child.kill(signal);
    await gone;
  }
}

/** Polls until `probe` gives a value. */
export async function eventually<T>(what: string, timeoutMs: number, probe: () => Promise<T | undefined>): Promise<T> {
  const began = systemClock.monotonic();
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (systemClock.monotonic() - began > timeoutMs) throw new ShoalError('DeadlineExceeded', `${what}: not in time`);
    await systemClock.sleep(POLL_MS);
  }
}

/** Where a member runs. */
export interface Place {
  host: string;
  enter: readonly string[];
  ports: { raft: number; client: number };
}

async function freePlace(): Promise<Place> {
  return {
    host: '127.0.0.1',
    enter: [],
    ports: { raft: await freePort(), client: await freePort() },
  };
}

export interface GroupOptions {
  /** Holds the members' directories. */
  dir: string;
  program: string;
  members: number;
  nodeFlags?: readonly string[];
  keepValues?: boolean;
  /** Also serve clients through grpc-js. */
  library?: boolean;
  snapshotEntries?: number;
  keepEntries?: number;
  /** Where a member runs; default: 127.0.0.1, with ports that are free. */
  place?: (id: number) => Place;
}

/** A group of our members. */
export class Group {
  readonly members: Member[];

  private constructor(members: Member[]) {
    this.members = members;
  }

  /** Starts the processes and forms the group. */
  static async form(options: GroupOptions): Promise<Group> {
    const { keepValues = true, snapshotEntries, keepEntries, nodeFlags = [], program } = options;
    const members: Member[] = [];
    for (let id = 1; id <= options.members; id++) {
      const { host, enter, ports } = options.place?.(id) ?? (await freePlace());
      const settings: MemberSettings = {
        id,
        dir: join(options.dir, `member${id}`),
        raftAddress: `${host}:${ports.raft}`,
        clientAddress: `${host}:${ports.client}`,
        peers: [],
        ...(options.library === true ? { libraryAddress: `${host}:${await freePort()}` } : {}),
        bootstrap: id === 1,
        keepValues,
        ...(snapshotEntries === undefined ? {} : { snapshotEntries }),
        ...(keepEntries === undefined ? {} : { keepEntries }),
      };
      members.push(new Member(settings, { program, nodeFlags, enter }));
    }
    for (const { settings } of members) {
      const others = members.filter((other) => other.id !== settings.id);
      settings.peers = others.map((other) => ({
        id: other.id,
        address: other.settings.raftAddress,
      }));
    }
    const group = new Group(members);
    try {
      await Promise.all(members.map((member) => member.start()));
      const [first, ...others] = members;
      const founder = must(first, 'first member');
      for (const other of others) {
        // The first member takes none before it leads and has committed an entry of its term.
        await eventually('the group forms', FORM_TIMEOUT_MS, async () => {
          return await founder.add(other).then(
            () => true,
            () => undefined,
          );
        });
      }
      await group.settled();
    } catch (error) {
      await group.stop();
      throw error;
    }
    return group;
  }

  get running(): Member[] {
    return this.members.filter((member) => member.pid !== 0);
  }

  /** The leader, once all running members agree and have applied the same. */
  async settled(timeoutMs = 20_000): Promise<{ leader: Member; term: number }> {
    return await eventually('the group settles', timeoutMs, async () => {
      const all = await Promise.all(this.running.map((member) => member.status()));
      const first = all[0];
      if (first === undefined || first.leaderId === 0) return undefined;
      const same = all.every(
        (s) => s.leaderId === first.leaderId && s.term === first.term && s.applied === first.commit && s.commit > 0,
      );
      const leader = this.members.find((member) => member.id === first.leaderId);
      if (!same || first.voters.length !== this.members.length || leader === undefined) return undefined;
      return { leader, term: first.term };
    });
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.kill('SIGTERM')));
    for (const member of this.members) rmSync(member.settings.dir, { recursive: true, force: true });
  }
}
