import { join } from 'node:path';
import { invalidArgument } from '../base/index.ts';
import { inspectLogDirectory, looksLikeLog, type LogInspection, type LogKeyRing } from '../raft/index.ts';
import { raftLogJson, raftLogText } from './raft-log-text.ts';

/** Exit code of `shoal debug raft-log` when the log is damaged. */
const EXIT_DAMAGED = 2;

const HELP = `Usage:  shoal debug raft-log [OPTIONS] [DIR]

Read the Raft log of a manager that is not running, and change nothing.
DIR is the log's directory, or that of a swarm, or a data root.

Options:
      --data-root DIR    Directory of persistent state (default "/var/lib/shoal")
      --entries          Show every entry
      --json             Print JSON
      --unlock-key KEY   Key of a locked swarm (SWMKEY-1-…)

Exits with ${EXIT_DAMAGED} when the log is damaged.
`;

/**
 * Opens the keys of an encrypted log, which stand in the node's key file beside it; null when there are none.
 * @param unlockKey as users write it.
 * @throws ShoalError FailedPrecondition when the key file is locked and the key does not open it.
 */
export type OpenLogKeys = (raftDir: string, unlockKey: string | undefined) => LogKeyRing | null;

interface DebugFlags {
  dir: string | undefined;
  dataRoot: string;
  entries: boolean;
  json: boolean;
  unlockKey: string | undefined;
}

function readFlags(words: readonly string[]): DebugFlags {
  const flags: DebugFlags = {
    dir: undefined,
    dataRoot: '/var/lib/shoal',
    entries: false,
    json: false,
    unlockKey: undefined,
  };
  for (let i = 0; i < words.length; i++) {
    const [, name = '', inline] = /^--([^=]+)(?:=(.*))?$/s.exec(words[i] as string) ?? [];
    const value = (): string => {
      const found = inline ?? words[++i];
      if (found === undefined) throw invalidArgument(`flag needs an argument: --${name}`);
      return found;
    };
    if (name === 'data-root') flags.dataRoot = value();
    else if (name === 'unlock-key') flags.unlockKey = value();
    else if (name === 'entries') flags.entries = true;
    else if (name === 'json') flags.json = true;
    else if (name !== '' || (words[i] as string).startsWith('-')) {
      throw invalidArgument(`unknown flag: ${words[i]}; see shoal debug raft-log --help`);
    } else if (flags.dir === undefined) flags.dir = words[i];
    else throw invalidArgument('"shoal debug raft-log" takes one directory');
  }
  return flags;
}

/** The directory of the log that the flags name. @throws ShoalError InvalidArgument when there is none */
function findLog({ dir, dataRoot }: DebugFlags): string {
  const start = dir ?? dataRoot;
  const candidates = [start, join(start, 'raft'), join(start, 'swarm/raft')];
  const found = candidates.find((candidate) => looksLikeLog(candidate));
  if (found === undefined) throw invalidArgument(`${start} holds no raft log (nor does swarm/raft below it)`);
  return found;
}

function isDamaged({ damages, repair, refusal }: LogInspection): boolean {
  return damages.length > 0 || repair !== null || refusal !== null;
}

/**
 * Runs `shoal debug WORDS`.
 * @returns the exit code.
 * @throws ShoalError for bad flags, a directory without a log, and a log whose keys are missing.
 */
export function runDebug(
  words: readonly string[],
  write: (text: string) => void,
  openKeys: OpenLogKeys = () => null,
): number {
  const [verb, ...rest] = words;
  if (verb === undefined || verb === '--help' || verb === '-h' || rest.includes('--help') || rest.includes('-h')) {
    write(HELP);
    return 0;
  }
  if (verb !== 'raft-log') throw invalidArgument(`unknown command: shoal debug ${verb}; see shoal debug --help`);
  const flags = readFlags(rest);
  const dir = findLog(flags);
  const found = inspectLogDirectory(dir, openKeys(dir, flags.unlockKey));
  write(
    flags.json
      ? `${JSON.stringify(raftLogJson(dir, found, flags.entries), null, 2)}\n`
      : raftLogText(dir, found, flags.entries),
  );
  return isDamaged(found) ? EXIT_DAMAGED : 0;
}
