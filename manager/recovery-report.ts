import { join } from 'node:path';
import { readFileIfExists, writeFileDurably } from '../base/index.ts';
import { timestampToMs } from '../proto/index.ts';
import { span } from './quorum-words.ts';
import { KINDS } from './store/tables.ts';
import type { ReadView } from './store/types.ts';

/** A manager that is no member of the cluster that began anew. */
export interface LeftBehind {
  nodeId: string;
  hostname: string;
  addr: string;
}

/** What a forced start or a restore began with, and so what may be lost. Times are Unix ms. */
export interface RecoveryReport {
  kind: 'force-new-cluster' | 'restore';
  atMs: number;
  nodeId: string;
  clusterId: string;
  /** Last entry of the log (forced start), or the entry at which the backup was taken. */
  index: number;
  /** Term of that entry; null when only a snapshot was left of it. */
  term: number | null;
  /** Newest change of any object in the store; null for an empty one. */
  newestChangeMs: number | null;
  /** The leader that this manager followed, or was; null when that is not known. */
  lastLeader: { nodeId: string; addr: string; hostname: string; heardMs: number } | null;
  leftBehind: LeftBehind[];
  /** When the backup was taken; null for a forced start. */
  backupMs: number | null;
}

const pathOf = (stateDir: string): string => join(stateDir, 'raft', 'recovery.json');

export function saveReport(stateDir: string, report: RecoveryReport): void {
  writeFileDurably(pathOf(stateDir), `${JSON.stringify(report, undefined, 2)}\n`);
}

/** The report of the last forced start or restore of this manager; undefined when there was none. */
export function loadReport(stateDir: string): RecoveryReport | undefined {
  try {
    return JSON.parse(readFileIfExists(pathOf(stateDir)) ?? 'null') ?? undefined;
  } catch {
    return undefined;
  }
}

/** When an object of the store was last changed, Unix ms; null for an empty store. */
export function newestChangeMs(view: ReadView): number | null {
  let newest: number | null = null;
  for (const kind of KINDS) {
    for (const { meta } of view.list(kind)) {
      const at = meta?.updated_at ?? null;
      if (at !== null) newest = Math.max(newest ?? 0, timestampToMs(at));
    }
  }
  return newest;
}

function moment(ms: number, nowMs: number): string {
  return `${new Date(ms).toISOString()} (${span(nowMs - ms)} before)`;
}

function named({ nodeId, hostname, addr }: LeftBehind): string {
  return `${hostname === '' ? '' : `${hostname}, `}node ${nodeId} at ${addr}`;
}

function position({ index, term }: RecoveryReport): string {
  return `Raft index ${index}${term === null ? '' : `, term ${term}`}`;
}

function leaderLine({ atMs, nodeId, lastLeader }: RecoveryReport): string {
  if (lastLeader === null) return 'It had not missed a leader before it was stopped.';
  const when = moment(lastLeader.heardMs, atMs);
  if (lastLeader.nodeId === nodeId) return `It led the former swarm itself until ${when}.`;
  return `Last word of the former leader, ${named(lastLeader)}: ${when}.`;
}

/** The report in words, one entry a line. */
export function reportLines(report: RecoveryReport): string[] {
  const { atMs, newestChangeMs: changeMs, backupMs } = report;
  const newest = changeMs === null ? '' : `; newest change ${moment(changeMs, atMs)}`;
  const others = report.leftBehind.map((one) => `  - ${named(one)}`);
  const forced = report.kind === 'force-new-cluster';
  const lines = forced
    ? [
        `This swarm began anew at ${new Date(atMs).toISOString()} with node ${report.nodeId} as its only manager.`,
        `It has everything up to ${position(report)}${newest}.`,
        leaderLine(report),
        `Changes that other managers acknowledged after index ${report.index} may be missing.`,
      ]
    : [
        `This swarm was restored at ${new Date(atMs).toISOString()} with node ${report.nodeId} as its only manager.`,
        `It has everything up to ${position(report)}${newest}.`,
        `Changes made after the backup was taken, ${moment(backupMs ?? atMs, atMs)}, are missing.`,
      ];
  if (others.length > 0) {
    lines.push(
      forced
        ? 'Managers left behind (one that starts again is made a worker; "docker node rm" those that are lost):'
        : 'Former managers (never start them again: "docker swarm leave --force" there; "docker node rm" them here):',
      ...others,
    );
  }
  return lines;
}
