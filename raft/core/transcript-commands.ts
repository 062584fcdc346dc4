import { must, SeededRandom } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeTransition, RaftConfChangeType, RaftMessageType } from '../../proto/index.ts';
import type { RaftConfChangeSingle } from '../../proto/index.ts';
import { bytes, logOf } from './harness.ts';
import { confStateOf, raftMessage, type ProposalResult } from './index.ts';
import { entriesWords, progressWords, statusWords } from './transcript-words.ts';
import { TranscriptWorld } from './transcript-world.ts';

type Command = (words: string[], options: ReadonlyMap<string, string>) => void;

const CHANGE_TYPES: Record<string, RaftConfChangeType> = {
  add: RaftConfChangeType.ConfChangeAddNode,
  learner: RaftConfChangeType.ConfChangeAddLearnerNode,
  remove: RaftConfChangeType.ConfChangeRemoveNode,
};
const NO_CONTEXT = new Uint8Array(0);

/** Test help: runs the commands of a transcript. transcripts/README.md says what each does. */
export class TranscriptRunner {
  #lines: string[] = [];
  readonly #world = new TranscriptWorld((line) => this.#lines.push(line));
  readonly #commands: Record<string, Command>;

  constructor() {
    this.#commands = {
      ...this.#setupCommands(),
      ...this.#proposalCommands(),
      ...this.#faultCommands(),
      ...this.#lookCommands(),
    };
  }

  /** Runs one line. @returns what happened; only whether it worked when the line begins with `quietly`. */
  run(line: string): string[] {
    this.#lines = [];
    let words = line.split(' ').filter((word) => word.length > 0);
    const quiet = words[0] === 'quietly';
    if (quiet) words = words.slice(1);
    const options = new Map<string, string>();
    for (const word of words) {
      const at = word.indexOf('=');
      if (at > 0) options.set(word.slice(0, at), word.slice(at + 1));
    }
    const [name = '', ...rest] = words.filter((word) => !word.includes('='));
    const command = this.#commands[name];
    if (command === undefined) throw new Error(`unknown command ${name}`);
    try {
      command(rest, options);
      if (name !== 'deliver' && name !== 'settle' && name !== 'drop') this.#world.work();
    } catch (error) {
      this.#lines.push(`error: ${(error as Error).message}`);
    }
    return quiet ? ['…'] : this.#lines.length === 0 ? ['nothing happens'] : this.#lines;
  }

  #setupCommands(): Record<string, Command> {
    const world = this.#world;
    return {
      start: (words, options) => {
        for (const id of words.map(Number)) this.#start(id, options);
      },
      restart: ([id]) => world.restart(Number(id)),
      slow: ([id]) => {
        world.get(Number(id)).slow = true;
      },
      written: ([id]) => world.finishWrite(Number(id)),
      campaign: ([id]) => world.get(Number(id)).core.campaign(),
      tick: ([id, times = '1']) => {
        for (let i = 0; i < Number(times); i++) {
          world.get(Number(id)).core.tick();
          world.work();
        }
      },
      deliver: ([to]) => {
        world.work();
        world.deliver(to === undefined ? null : Number(to));
        world.work();
      },
      settle: () => this.#settle(),
    };
  }

  #settle(): void {
    const world = this.#world;
    world.work();
    for (let i = 0; i < 200 && world.network.length > 0; i++) {
      world.deliver(null);
      world.work();
    }
    if (world.network.length > 0) throw new Error('the group does not come to rest');
  }

  #start(id: number, options: ReadonlyMap<string, string>): void {
    const numbers = (key: string): number[] => (options.get(key) ?? '').split(',').filter(Boolean).map(Number);
    const number = (key: string, standard: number): number => Number(options.get(key) ?? standard);
    const terms = numbers('log');
    const conf_state = confStateOf({ voters: new Set(numbers('voters')), learners: new Set(numbers('learners')) });
    const hardState = { term: number('term', terms.at(-1) ?? 0), vote: number('vote', 0), commit: number('commit', 0) };
    const floor = options.get('repair');
    this.#world.start(
      {
        id,
        random: new SeededRandom(id),
        electionTicks: 10,
        heartbeatTicks: 2,
        maxAppendBytes: number('appendBytes', 1 << 20),
        maxInflightMessages: number('window', 256),
        maxInflightBytes: number('windowBytes', 1 << 24),
        maxUncommittedBytes: number('uncommittedBytes', 1 << 24),
        snapshotRetryTicks: 20,
        restartGuardTicks: number('guard', 0),
      },
      {
        hardState: hardState.term === 0 ? null : hardState,
        snapshot: options.has('voters') ? { data: NO_CONTEXT, metadata: { index: 0, term: 0, conf_state } } : null,
        entries: logOf(...terms),
        repair: floor === undefined ? null : { floor: floor === 'unknown' ? null : Number(floor), reason: 'damaged' },
      },
    );
  }

  #proposalCommands(): Record<string, Command> {
    const core = (id: string | undefined): ReturnType<TranscriptWorld['get']>['core'] =>
      this.#world.get(Number(id)).core;
    return {
      propose: ([id, ...items]) => this.#proposed(id, core(id).propose(items.map(contents))),
      change: ([id, type, node]) => {
        const change = RaftConfChange.create({ ...partOf(type, node), id: 1 });
        this.#proposed(id, core(id).proposeConfChange(change));
      },
      joint: ([id, ...parts], options) => {
        const changes = pairs(parts).map(([type, node]) => partOf(type, node));
        const { ConfChangeTransitionJointExplicit, ConfChangeTransitionJointImplicit } = RaftConfChangeTransition;
        const explicit = options.get('leave') === 'explicit';
        const transition = explicit ? ConfChangeTransitionJointExplicit : ConfChangeTransitionJointImplicit;
        this.#proposed(id, core(id).proposeConfChangeV2({ transition, changes, context: NO_CONTEXT }));
      },
      transfer: ([id, to]) => {
        if (!core(id).transferLeadership(Number(to))) this.#lines.push(`${id} does not hand the lead to ${to}`);
      },
      read: ([id, name]) => {
        if (!core(id).readIndex(bytes(name ?? ''))) this.#lines.push(`${id} knows no leader to ask`);
      },
      lease: ([id, now]) => {
        const index = core(id).leaseRead(Number(now));
        this.#lines.push(
          index === null ? `${id} has no lease at tick ${now}` : `${id} may read at ${index} by its lease`,
        );
      },
    };
  }

  #proposed(id: string | undefined, result: ProposalResult): void {
    if (result.accepted) this.#lines.push(`${id} takes it at ${result.index}/${result.term}`);
    else this.#lines.push(`${id} refuses, ${result.refusal}: ${result.detail}`);
  }

  #faultCommands(): Record<string, Command> {
    const world = this.#world;
    return {
      cut: (ids) => ids.map(Number).forEach((id) => world.cut(id)),
      heal: () => world.heal(),
      drop: ([to, type]) => {
        world.work();
        world.drop(to === undefined || to === 'all' ? null : Number(to), type === undefined ? null : typeOf(type));
      },
      compact: ([id, keep = '0']) => world.snapshot(Number(id), Number(keep)),
      unreachable: ([id, peer]) => world.get(Number(id)).core.reportUnreachable(Number(peer)),
      'snapshot-arrived': ([id, peer]) => world.get(Number(id)).core.reportSnapshot(Number(peer), true),
      'snapshot-lost': ([id, peer]) => world.get(Number(id)).core.reportSnapshot(Number(peer), false),
      message: ([from, to, type], options) => {
        const number = (key: string): number => Number(options.get(key) ?? 0);
        const message = raftMessage({
          type: typeOf(type),
          from: Number(from),
          to: Number(to),
          term: number('term'),
          index: number('index'),
          log_term: number('logTerm'),
          commit: number('commit'),
          reject: options.get('reject') === 'true',
          reject_hint: number('hint'),
          entries: entriesOf(options.get('entries')),
        });
        world.get(message.to).core.step(message);
      },
    };
  }

  #lookCommands(): Record<string, Command> {
    const all = (ids: string[]): number[] => (ids.length > 0 ? ids.map(Number) : [...this.#world.members.keys()]);
    return {
      status: (ids) => {
        for (const id of all(ids)) this.#lines.push(`${id}: ${statusWords(this.#world.get(id).core)}`);
      },
      log: (ids) => {
        for (const id of all(ids)) this.#lines.push(`${id}: ${entriesWords(this.#world.get(id).core.entriesFrom(1))}`);
      },
      progress: ([id, ...peers]) => {
        for (const peer of peers.map(Number)) {
          this.#lines.push(`${id} of ${peer}: ${progressWords(this.#world.get(Number(id)).core, peer)}`);
        }
      },
    };
  }
}

/** `x*40` stands for 40 bytes. */
function contents(item: string): Uint8Array {
  const [letter = '', count] = item.split('*');
  return bytes(count === undefined ? letter : letter.repeat(Number(count)));
}

function typeOf(name: string | undefined): RaftMessageType {
  return must(RaftMessageType[name as keyof typeof RaftMessageType], `message type ${name}`);
}

function partOf(type: string | undefined, node: string | undefined): RaftConfChangeSingle {
  return { type: must(CHANGE_TYPES[type ?? ''], `change ${type}`), node_id: Number(node) };
}

function pairs(words: readonly string[]): [string, string][] {
  const out: [string, string][] = [];
  for (let i = 0; i + 1 < words.length; i += 2) out.push([words[i] as string, words[i + 1] as string]);
  return out;
}

/** `4/2,5/3`: entries by index and term. */
function entriesOf(given: string | undefined): ReturnType<typeof logOf> {
  return (given ?? '').split(',').flatMap((word) => {
    const [index, term] = word.split('/');
    if (index === undefined || term === undefined) return [];
    return logOf(Number(term)).map((entry) => ({ ...entry, index: Number(index), data: bytes(word) }));
  });
}
