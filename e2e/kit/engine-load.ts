import { readdirSync, readFileSync } from 'node:fs';
import { httpCall, must, readText, systemClock, type Random } from '../../base/index.ts';
import { until } from './until.ts';

/** Containers that one client keeps at the most. */
const CONTAINERS_PER_CLIENT = 4;
const CALL_TIMEOUT_MS = 30_000;
/** A container of the short kind ends with this code by itself, the long kind with the other when it is told to. */
const SHORT_EXIT = 3;
const TERM_EXIT = 7;
const KILLED_EXIT = 137;
/** The end of a container is recorded by then, also when it fell into the daemon's absence, ms. */
const SETTLE_TIMEOUT_MS = 10_000;

/** What the daemon has promised of one container, and what was asked of it without an answer. */
interface Ledger {
  name: string;
  kind: 'long' | 'short';
  id: string;
  /** The last state that was acknowledged. */
  state: 'asked' | 'created' | 'started' | 'stopped' | 'removed';
  /** Asked of it, and the daemon was killed before it answered. */
  unanswered: Set<'start' | 'stop' | 'remove'>;
  /** A removal by force that was cut off has killed it; until a start of it is acknowledged. */
  killed: boolean;
  /** Process and start time, as told after an acknowledged start. */
  process: string;
}

interface Inspected {
  Id: string;
  State: { Status: string; Pid: number; ExitCode: number; Error: string };
}

/** Field of /proc/PID/stat that tells when a process started; empty when there is none. */
function startTime(pid: number): string {
  try {
    return (
      readFileSync(`/proc/${pid}/stat`, 'utf8')
        .replace(/^.*\) /, '')
        .split(' ')[19] ?? ''
    );
  } catch {
    return '';
  }
}

/** Clients of one engine that create, start, stop, remove and pull all the time, and write down what they were told. */
export class EngineLoad {
  readonly #host: string;
  readonly #image: string;
  readonly #pulls: readonly string[];
  readonly #random: Random;
  readonly #ledger = new Map<string, Ledger>();
  readonly #pulled = new Set<string>();
  readonly #dropping = new Set<string>();
  #running = false;
  #clients: Promise<void>[] = [];
  #number = 0;
  /** Answers by verb. */
  readonly answered: Record<string, number> = {};
  /** Things that no crash excuses. */
  readonly broken: string[] = [];

  /** @param image what containers are made of. @param pulls references that come and go */
  constructor(options: { host: string; image: string; pulls: readonly string[]; random: Random }) {
    this.#host = options.host;
    this.#image = options.image;
    this.#pulls = options.pulls;
    this.#random = options.random;
  }

  begin(clients: number): void {
    this.#running = true;
    this.#clients = Array.from({ length: clients }, (_none, number) => this.#client(number));
    this.#clients.push(this.#puller());
  }

  /** Waits until so many more requests were answered, but not longer than this. */
  async answers(count: number, timeoutMs: number): Promise<void> {
    const began = systemClock.monotonic();
    const total = (): number => Object.values(this.answered).reduce((sum, number) => sum + number, 0);
    const wanted = total() + count;
    while (total() < wanted && systemClock.monotonic() - began < timeoutMs) await systemClock.sleep(5);
  }

  /** Lets what is under way end, however it does. */
  async end(): Promise<void> {
    this.#running = false;
    await Promise.all(this.#clients);
  }

  /** Status and body; undefined when the daemon did not answer to the end. */
  async #call(method: string, path: string, body?: object): Promise<{ status: number; text: string } | undefined> {
    try {
      const more = body === undefined ? {} : { body };
      const answer = await httpCall({ host: this.#host, method, path, timeoutMs: CALL_TIMEOUT_MS, ...more });
      return { status: answer.status, text: await readText(answer.body) };
    } catch {
      return undefined;
    }
  }

  /** Whether it was acknowledged; undefined when nobody answered. Refusals that no crash excuses are written down. */
  async #ask(verb: string, path: string, method = 'POST', body?: object): Promise<string | undefined | false> {
    const answer = await this.#call(method, path, body);
    if (answer === undefined) return undefined;
    if (answer.status >= 400) {
      // The daemon's own end: it was not the request's fault.
      if (this.#running || !/abort|socket|stopp/i.test(answer.text)) {
        this.broken.push(`${verb} ${path}: ${answer.status} ${answer.text.trim()}`);
      }
      return false;
    }
    this.answered[verb] = (this.answered[verb] ?? 0) + 1;
    return answer.text;
  }

  async #client(number: number): Promise<void> {
    const own: Ledger[] = [...this.#ledger.values()].filter(({ name }) => name.startsWith(`c${number}-`));
    while (this.#running) {
      const chosen = own[this.#random.int(CONTAINERS_PER_CLIENT)];
      if (chosen === undefined) await this.#create(number, own);
      else if (chosen.state === 'created') await this.#start(chosen);
      else if (chosen.state === 'started' && chosen.kind === 'long' && this.#random.int(2) === 0) {
        await this.#stop(chosen);
      } else if (chosen.state === 'stopped' && this.#random.int(2) === 0) await this.#start(chosen);
      else await this.#remove(chosen, own);
      const lost = own.some((entry) => entry.unanswered.size > 0 || entry.state === 'asked');
      // The daemon is gone: the books of this client are closed until the next round.
      if (lost) return;
    }
  }

  async #create(number: number, own: Ledger[]): Promise<void> {
    const name = `c${number}-${++this.#number}`;
    const kind = this.#random.int(3) === 0 ? 'short' : 'long';
    const entry: Ledger = { name, kind, id: '', state: 'asked', unanswered: new Set(), killed: false, process: '' };
    this.#ledger.set(name, entry);
    own.push(entry);
    const command = kind === 'short' ? `exit ${SHORT_EXIT}` : `trap "exit ${TERM_EXIT}" TERM; sleep 100000 & wait`;
    const body = { Image: this.#image, Cmd: ['sh', '-c', command], HostConfig: { NetworkMode: this.#network() } };
    const text = await this.#ask('create', `/containers/create?name=${name}`, 'POST', body);
    if (text === undefined) return;
    if (text === false) {
      this.#ledger.delete(name);
      own.splice(own.indexOf(entry), 1);
      return;
    }
    Object.assign(entry, { state: 'created', id: (JSON.parse(text) as { Id: string }).Id });
  }

  #network(): string {
    return this.#random.int(2) === 0 ? 'bridge' : 'none';
  }

  async #start(entry: Ledger): Promise<void> {
    entry.unanswered.add('start');
    const text = await this.#ask('start', `/containers/${entry.id}/start`);
    // A start that was cut off before it began leaves the end before it as it was.
    if (text === undefined) return;
    entry.unanswered.delete('start');
    if (text === false) return;
    entry.killed = false;
    entry.state = 'started';
    entry.process = '';
    const facts = await this.#inspect(entry.id);
    if (facts !== undefined && entry.kind === 'long') {
      entry.process = `${facts.State.Pid} ${startTime(facts.State.Pid)}`;
    }
  }

  async #stop(entry: Ledger): Promise<void> {
    entry.unanswered.add('stop');
    const text = await this.#ask('stop', `/containers/${entry.id}/stop?t=5`);
    if (text === undefined) return;
    entry.unanswered.delete('stop');
    if (text !== false) entry.state = 'stopped';
  }

  async #remove(entry: Ledger, own: Ledger[]): Promise<void> {
    entry.unanswered.add('remove');
    const text = await this.#ask('remove', `/containers/${entry.id}?force=1`, 'DELETE');
    if (text === undefined || text === false) return;
    entry.unanswered.delete('remove');
    entry.state = 'removed';
    own.splice(own.indexOf(entry), 1);
  }

  async #puller(): Promise<void> {
    while (this.#running) {
      const reference = must(this.#pulls[this.#random.int(this.#pulls.length)], 'reference');
      if (this.#pulled.has(reference)) {
        this.#dropping.add(reference);
        if ((await this.#ask('rmi', `/images/${reference}?force=1`, 'DELETE')) === undefined) return;
        this.#dropping.delete(reference);
        this.#pulled.delete(reference);
      } else {
        const [, name = '', tag = ''] = /^(.*):([^:/]+)$/.exec(reference) ?? [];
        const text = await this.#ask('pull', `/images/create?fromImage=${encodeURIComponent(name)}&tag=${tag}`);
        if (text === undefined) return;
        // The stream ends with this line when the pull is done; a killed daemon cuts it off.
        if (text !== false && text.includes('Status: ')) this.#pulled.add(reference);
        else if (text !== false && text.includes('"error"')) this.broken.push(`pull ${reference}: ${text.slice(-300)}`);
      }
    }
  }

  async #inspect(id: string): Promise<Inspected | undefined> {
    const answer = await this.#call('GET', `/containers/${id}/json`);
    return answer === undefined || answer.status === 404 ? undefined : (JSON.parse(answer.text) as Inspected);
  }

  /** What is wrong with one container after the daemon has come back; undefined when every promise was kept. */
  async #judge(entry: Ledger, present: ReadonlyMap<string, string>): Promise<string | undefined> {
    const id = present.get(entry.name);
    const maybe = entry.unanswered;
    if (entry.state === 'removed') return id === undefined ? undefined : 'was removed, but is there';
    if (id === undefined) {
      const excused = entry.state === 'asked' || maybe.has('remove');
      if (excused) entry.state = 'removed';
      return excused ? undefined : `was acknowledged (${entry.state}), but is gone`;
    }
    if (entry.state === 'asked') entry.state = 'created';
    entry.id = id;
    const facts = await this.#inspect(id);
    if (facts === undefined) return 'is listed, but cannot be inspected';
    return this.#judgeState(entry, facts);
  }

  #judgeState(entry: Ledger, { State: { Status, Pid, ExitCode, Error: words } }: Inspected): string | undefined {
    const maybe = entry.unanswered;
    const open = [...maybe].map((verb) => `, ${verb} unanswered`).join('');
    const seen = `${Status} (${ExitCode}${words === '' ? '' : `: ${words}`})${open}`;
    const ending = maybe.has('stop') || maybe.has('remove');
    if (Status === 'running') {
      if (entry.kind === 'short') return 'still runs';
      const wanted = entry.state === 'started' || maybe.has('start');
      if (!wanted) return `is running, but was acknowledged as ${entry.state}`;
      const process = `${Pid} ${startTime(Pid)}`;
      if (startTime(Pid) === '') return `has no process ${Pid}`;
      if (entry.process !== '' && !maybe.has('start') && entry.process !== process) return 'has another process';
      Object.assign(entry, { state: 'started', process });
      return undefined;
    }
    if (Status === 'created') {
      if (entry.state === 'created') return undefined;
      return `is ${seen}, but was acknowledged as ${entry.state}`;
    }
    if (Status !== 'exited') return `is ${seen}`;
    if (entry.kind === 'short') {
      entry.state = 'stopped';
      // A removal by force that was cut off may have killed it before.
      entry.killed ||= maybe.has('remove');
      const fine = ExitCode === SHORT_EXIT || (entry.killed && ExitCode === KILLED_EXIT);
      return fine ? undefined : `ended as ${seen}`;
    }
    const mayEnd = entry.state === 'stopped' || ending || (entry.state === 'created' && maybe.has('start'));
    if (!mayEnd) return `is ${seen}, but was acknowledged as ${entry.state}`;
    entry.state = 'stopped';
    return [TERM_EXIT, KILLED_EXIT].includes(ExitCode) ? undefined : `ended as ${seen}`;
  }

  /** Compares everything that was acknowledged with what the daemon has after a crash; returns broken promises. */
  async settle(): Promise<string[]> {
    let faults: string[] = [];
    await until('promises are kept', SETTLE_TIMEOUT_MS, async () => {
      faults = await this.#faults();
      return faults.length === 0;
    }).catch(() => undefined);
    for (const entry of [...this.#ledger.values()]) {
      entry.unanswered.clear();
      if (entry.state === 'removed') this.#ledger.delete(entry.name);
    }
    return faults;
  }

  async #faults(): Promise<string[]> {
    const answer = must(await this.#call('GET', '/containers/json?all=1'), 'an answer of the daemon');
    const listed = JSON.parse(answer.text) as { Id: string; Names: string[] }[];
    const present = new Map(listed.map(({ Id, Names }) => [(Names[0] ?? '').slice(1), Id]));
    const faults: string[] = [];
    for (const entry of this.#ledger.values()) {
      const fault = await this.#judge(entry, present);
      if (fault !== undefined) faults.push(`container ${entry.name} ${fault}`);
    }
    for (const name of present.keys()) if (!this.#ledger.has(name)) faults.push(`container ${name} is nobody's`);
    for (const reference of this.#pulls) {
      const { status } = must(await this.#call('GET', `/images/${reference}/json`), 'an answer of the daemon');
      if (this.#pulled.has(reference) && status !== 200 && !this.#dropping.has(reference)) {
        faults.push(`image ${reference} was pulled, but is gone`);
      }
      if (status === 200) this.#pulled.add(reference);
      else this.#pulled.delete(reference);
    }
    this.#dropping.clear();
    return faults;
  }

  /** Ids of the containers that run. */
  async running(): Promise<string[]> {
    const answer = must(await this.#call('GET', '/containers/json'), 'an answer of the daemon');
    return (JSON.parse(answer.text) as { Id: string }[]).map(({ Id }) => Id).sort();
  }
}

/** A daemon, and where it keeps what. */
export interface DaemonPlace {
  pid: number;
  dataDir: string;
  execRoot: string;
  /** Directories of its containers' control groups, one in each tree. */
  cgroups: readonly string[];
}

/** Container ids, by what the kernel itself tells of a daemon's mounts, monitors and control groups. */
export function kernelTruth({ pid, dataDir, execRoot, cgroups }: DaemonPlace): Record<string, string[]> {
  const points = readFileSync(`/proc/${pid}/mountinfo`, 'utf8')
    .split('\n')
    .map((line) => line.split(' ')[4] ?? '');
  // Others make containers on this machine too, and hosts began with a copy of its mounts.
  const own = points.filter((point) => point.startsWith(`${dataDir}/`));
  const mounts = own.map((point) => /\/([0-9a-f]{64})\/merged$/.exec(point)?.[1] ?? '').filter((id) => id !== '');
  const monitors: string[] = [];
  for (const process of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      const words = readFileSync(`/proc/${process}/cmdline`, 'utf8').split('\0');
      const bundle = words[words.indexOf('-b') + 1] ?? '';
      if ((words[0] ?? '').endsWith('conmon') && bundle.startsWith(`${execRoot}/`)) monitors.push(bundle.slice(-64));
    } catch {
      // It has just ended.
    }
  }
  const groups = cgroups.flatMap((path) => {
    try {
      return readdirSync(path).filter((name) => /^[0-9a-f]{64}$/.test(name));
    } catch {
      return [];
    }
  });
  const sorted = (ids: Iterable<string>): string[] => [...new Set(ids)].sort();
  return {
    mounts: sorted(mounts),
    monitors: sorted(monitors),
    cgroups: sorted(groups),
  };
}
