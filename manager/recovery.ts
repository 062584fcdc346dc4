import { must, ShoalError, unavailable, type Clock, type Logger, type Random } from '../base/index.ts';
import type { NodeIdentity } from '../identity/index.ts';
import {
  Node,
  NodeRole,
  RaftConfChange,
  RaftConfChangeType,
  RaftMessage,
  RaftMessageType,
  type ControlService,
  type RequestOf,
  type ResponseOf,
} from '../proto/index.ts';
import { recordsOf, writeBackup, type RestoreImage } from './backup/index.ts';
import { clusterOf } from './ca/index.ts';
import { isRead } from './confirmed-reads.ts';
import { loadLastLeader, removeLastLeader, saveLastLeader } from './last-leader-file.ts';
import type { LeaderAccess } from './leader-access.ts';
import { MemberList, type LastLeader, type Member } from './membership/index.ts';
import type { ManagerParts } from './parts.ts';
import { quorumLine, quorumLines } from './quorum-words.ts';
import { loadReport, newestChangeMs, reportLines, saveReport, type RecoveryReport } from './recovery-report.ts';
import { encodeState } from './replicated-state.ts';
import type { Transaction } from './store/types.ts';

export interface RecoveryOptions {
  identity: NodeIdentity;
  stateDir: string;
  clock: Clock;
  random: Random;
  log: Logger;
}

/** What the phases of a manager's start do; each resolves when it is through. */
export interface StartPhases {
  /** Starts consensus. */
  start: () => Promise<void>;
  /** This manager leads and its store is in use. */
  ready: () => Promise<void>;
}

/** Disasters as a manager sees them: what is lost, backups, and beginning anew. */
export class Recovery {
  readonly #options: RecoveryOptions;
  readonly #parts: ManagerParts;
  readonly #leaderAccess: LeaderAccess;
  #report: RecoveryReport | undefined;

  constructor(options: RecoveryOptions, parts: ManagerParts, leaderAccess: LeaderAccess) {
    this.#options = options;
    this.#parts = parts;
    this.#leaderAccess = leaderAccess;
    this.#report = loadReport(options.stateDir);
  }

  /** Keeps who led last for as long as nobody leads. */
  static noteLeader({ stateDir, log }: RecoveryOptions, leader: 'found' | LastLeader): void {
    try {
      if (leader === 'found') removeLastLeader(stateDir);
      else saveLastLeader(stateDir, leader);
    } catch (error) {
      log.warn('who led last was not noted', { error });
    }
  }

  /** Starts as the only manager, and reports with what. */
  async forced(raftId: number, { start, ready }: StartPhases): Promise<void> {
    const { stateDir, log } = this.#options;
    const lastLeader = loadLastLeader(stateDir);
    await start();
    const changeMs = newestChangeMs(this.#parts.store.view());
    await ready();
    const { hostname } = this.#parts.wordsContext();
    const { index, term, members } = must(this.#parts.consensus(), 'consensus').endBeforeForce();
    const leftBehind = members.filter((member) => member.raftId !== raftId);
    this.#save({
      kind: 'force-new-cluster',
      index,
      term,
      newestChangeMs: changeMs,
      lastLeader: lastLeader === undefined ? null : { ...lastLeader, hostname: hostname(lastLeader.nodeId) },
      leftBehind: leftBehind.map(({ nodeId, addr }) => ({ nodeId, addr, hostname: hostname(nodeId) })),
      backupMs: null,
    });
    log.warn('a new cluster was forced', { report: this.#report });
  }

  /** The restored state reaches the log as a leader's snapshot would reach a new member, which then is the only voter. */
  async restored(image: RestoreImage, member: Member, { start, ready }: StartPhases): Promise<void> {
    await start();
    must(this.#parts.consensus()?.receiver(), 'a started driver').step(restoreMessage(image, member));
    await ready();
    const { createdMs, index, term, newestChangeMs: changeMs } = image.backup;
    this.#save({
      kind: 'restore',
      index,
      term,
      newestChangeMs: changeMs,
      lastLeader: null,
      leftBehind: image.formerManagers,
      backupMs: createdMs,
    });
  }

  #save(report: Omit<RecoveryReport, 'atMs' | 'nodeId' | 'clusterId'>): void {
    const { stateDir, clock, identity } = this.#options;
    const { nodeId, clusterId } = identity;
    this.#report = { ...report, atMs: clock.now(), nodeId, clusterId };
    saveReport(stateDir, this.#report);
  }

  /** What this cluster began anew with, for as long as a manager that was left behind is still one of its nodes. */
  report(): { report: RecoveryReport; lines: string[] } | undefined {
    const report = this.#report;
    const view = this.#parts.store.view();
    if (report?.leftBehind.some((one) => view.get('node', one.nodeId) !== undefined) !== true) return undefined;
    return { report, lines: reportLines(report) };
  }

  /** Set while it is known that no leader can exist: Docker's words and ours, on one line and on several. */
  quorumLoss(): { line: string; lines: string[] } | undefined {
    const loss = this.#parts.quorum.loss();
    if (loss === undefined) return undefined;
    const context = this.#parts.wordsContext();
    return { line: quorumLine(loss, context), lines: quorumLines(loss, context) };
  }

  /**
   * A reading of what this manager last knew, without asking the leader: for when there is none.
   * @throws ShoalError InvalidArgument for a method that writes
   */
  async callStale<Name extends keyof typeof ControlService>(
    name: Name,
    request: RequestOf<(typeof ControlService)[Name]>,
  ): Promise<ResponseOf<(typeof ControlService)[Name]>> {
    if (!isRead(name)) throw new ShoalError('InvalidArgument', 'only what reads may be served stale');
    const here = this.#parts.control[name] as unknown as (
      request: RequestOf<(typeof ControlService)[Name]>,
    ) => Promise<ResponseOf<(typeof ControlService)[Name]>>;
    return await here(request);
  }

  /**
   * All replicated state as the bytes of a backup file: a linearizable reading, or, when `stale`, what this manager has.
   * @param options.version version of the program, for the file's header
   * @throws ShoalError Unavailable without a leader
   */
  async backup(options: {
    passphrase: string | undefined;
    stale: boolean;
    version: string;
  }): Promise<AsyncIterable<Uint8Array>> {
    const { identity, clock, random } = this.#options;
    const { store, members } = this.#parts;
    const consensus = this.#parts.consensus();
    if (!options.stale) await this.#leaderAccess.confirmedRead(() => must(consensus, 'consensus').readBarrier());
    const view = store.view();
    const cluster = clusterOf(view);
    if (cluster === undefined) throw unavailable('this manager does not know its cluster yet; try again');
    const records = recordsOf(view, {
      clusterId: cluster.id,
      nodeId: identity.nodeId,
      raftIndex: store.currentIndex,
      raftTerm: consensus?.status()?.term ?? 0,
      stale: options.stale,
      autolock: cluster.spec?.encryption_config?.auto_lock_managers === true,
      newestChangeMs: newestChangeMs(view),
      members: members.list(),
    });
    return await writeBackup(records, { ...options, createdMs: clock.now(), random });
  }
}

/** What a leader of the lost cluster would send to a new member: the restored state, with the new member as only voter. */
function restoreMessage(image: RestoreImage, member: Member): RaftMessage {
  const members = new MemberList();
  members.seed([member]);
  for (const node_id of image.formerRaftIds) {
    members.apply(RaftConfChange.create({ type: RaftConfChangeType.ConfChangeRemoveNode, node_id }));
  }
  const data = encodeState(members, { snapshot: () => image.snapshot, restore: () => undefined });
  const { index, term } = image;
  return RaftMessage.create({
    type: RaftMessageType.MsgSnap,
    to: member.raftId,
    from: image.formerRaftIds.find((id) => id !== member.raftId) ?? (member.raftId === 1 ? 2 : 1),
    term,
    snapshot: { data, metadata: { index, term, conf_state: { voters: [member.raftId] } } },
  });
}

/** Makes every other manager a worker: they were left behind. */
export function demoteOthers(tx: Transaction, nodeId: string): void {
  for (const stored of tx.list('node')) {
    if (stored.id === nodeId || stored.role !== NodeRole.MANAGER || stored.spec === null) continue;
    const node = Node.clone(stored);
    node.spec = { ...stored.spec, desired_role: NodeRole.WORKER };
    tx.update('node', node);
  }
}
