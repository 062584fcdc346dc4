import { createHash } from 'node:crypto';
import { closeSync, createReadStream, fsyncSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import type { Readable } from 'node:stream';
import { between, exactly, option, type CommandGroup, type OptionSpec } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import type { SwarmInfo } from './objects.ts';
import { printJoinCommand, printRecovery } from './swarm.ts';
import { readSecret } from './swarm-keys.ts';
import { binarySize, parseDuration } from './units.ts';

/** Bytes of the checksum at the end of a backup (see manager/backup/format.ts). */
const CHECKSUM_BYTES = 32;

/** What the daemon tells of a backup. */
interface BackupFacts {
  version: string;
  format: number;
  createdMs: number;
  encrypted: boolean;
  clusterId: string;
  nodeId: string;
  raftIndex: number;
  raftTerm: number;
  stale: boolean;
  autolock: boolean;
  newestChangeMs: number | null;
  members: { nodeId: string; addr: string }[];
  counts: Record<string, number>;
  services: string[];
  nodes: { id: string; hostname: string }[];
}

const PASSPHRASE: OptionSpec = option(
  'passphrase-file',
  'string',
  'File whose first line encrypts the backup ("-": standard input, asked for on a terminal)',
);

/** The header that carries the passphrase; none without the option. */
async function passphrase(context: Context, flags: Flags, confirm: boolean): Promise<Record<string, string>> {
  const path = flags.string('passphrase-file');
  if (path === '') return {};
  const fromFile = (): string => (readFileSync(path, 'utf8').split('\n')[0] ?? '').replace(/\r$/, '');
  const text = path === '-' ? await readSecret(context, 'Enter passphrase: ') : fromFile();
  if (text === '') throw new Error(`${path === '-' ? 'standard input' : path} holds no passphrase`);
  if (confirm && text.length < 8)
    say(context.err, 'WARNING: the passphrase is short; whoever has the file can guess it');
  return { 'Shoal-Passphrase': Buffer.from(text, 'utf8').toString('base64') };
}

/** Writes a stream to a file that only its owner may read, whole or not at all. @returns its size, bytes */
async function save(body: AsyncIterable<Buffer>, path: string): Promise<number> {
  const beside = `${path}.${process.pid}.new`;
  const hash = createHash('sha256');
  let size = 0;
  let tail: Buffer = Buffer.alloc(0);
  const fd = openSync(beside, 'wx', 0o600);
  try {
    for await (const chunk of body) {
      for (let at = 0; at < chunk.length;) at += writeSync(fd, chunk, at);
      size += chunk.length;
      const have = Buffer.concat([tail, chunk]);
      const cut = Math.max(0, have.length - CHECKSUM_BYTES);
      hash.update(have.subarray(0, cut));
      tail = Buffer.from(have.subarray(cut));
    }
    if (Buffer.compare(hash.digest(), tail) !== 0) throw new Error('the backup did not arrive whole; try again');
    fsyncSync(fd);
    renameSync(beside, path);
  } catch (error) {
    rmSync(beside, { force: true });
    throw error;
  } finally {
    closeSync(fd);
  }
  return size;
}

async function openBackup(path: string): Promise<Readable> {
  try {
    await stat(path);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new Error(missing ? `open ${path}: no such file or directory` : (error as Error).message, { cause: error });
  }
  return createReadStream(path);
}

async function inspectFile(context: Context, flags: Flags, path: string): Promise<BackupFacts> {
  const headers = await passphrase(context, flags, false);
  const call = { method: 'POST', path: '/shoal/swarm/backup/inspect', headers, body: await openBackup(path) };
  return await context.client.json<BackupFacts>(call);
}

function describe(facts: BackupFacts): string {
  const time = (ms: number): string => new Date(ms).toISOString();
  const hostname = (id: string): string => facts.nodes.find((node) => node.id === id)?.hostname ?? '';
  const rows: [string, string][] = [
    ['Cluster', facts.clusterId],
    ['Taken', `${time(facts.createdMs)} by Shoal ${facts.version} on ${hostname(facts.nodeId)} (${facts.nodeId})`],
    ['State', `Raft index ${facts.raftIndex}, term ${facts.raftTerm}`],
    ['Newest change', facts.newestChangeMs === null ? 'none' : time(facts.newestChangeMs)],
    [
      'Confirmed',
      facts.stale ? 'no: taken with --stale, newer changes may be missing' : 'yes, by a majority of managers',
    ],
    ['Encrypted', facts.encrypted ? 'yes' : 'no: it holds keys and secrets in clear'],
    ['Autolock', facts.autolock ? 'on (its unlock key is in the backup)' : 'off'],
    ['Managers', facts.members.map(({ nodeId, addr }) => `${hostname(nodeId)} (${addr})`).join(', ')],
    [
      'Objects',
      Object.entries(facts.counts)
        .map(([kind, count]) => `${count} ${kind}${count === 1 ? '' : 's'}`)
        .join(', '),
    ],
    ['Services', facts.services.join(', ') || 'none'],
  ];
  return rows.map(([name, text]) => `${`${name}:`.padEnd(15)}${text}\n`).join('');
}

async function backup(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const path = words[0] ?? '';
  if (flags.bool('inspect')) {
    const facts = await inspectFile(context, flags, path);
    context.out.write(flags.string('format') === 'json' ? `${JSON.stringify(facts)}\n` : describe(facts));
    return;
  }
  const headers = await passphrase(context, flags, true);
  const query = { stale: flags.bool('stale') };
  const body = await context.client.stream({ method: 'GET', path: '/shoal/swarm/backup', query, headers });
  const size = await save(body as AsyncIterable<Buffer>, path);
  say(context.out, `Swarm backed up to ${path} (${binarySize(size)}).`);
  if (Object.keys(headers).length === 0) {
    say(
      context.err,
      'WARNING: it holds the key of the root certificate, join tokens and secrets in clear: keep it safe.',
    );
  }
}

async function restore(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const headers = await passphrase(context, flags, false);
  const nodeId = await client.json<string>({
    method: 'POST',
    path: '/shoal/swarm/restore',
    query: {
      listenAddr: flags.string('listen-addr'),
      advertiseAddr: flags.string('advertise-addr'),
      dataPathAddr: flags.string('data-path-addr'),
      availability: flags.string('availability'),
      awaitMs: Math.round((flags.number('await') ?? 0) / 1e6),
    },
    headers,
    body: await openBackup(words[0] ?? ''),
  });
  say(context.out, `Swarm restored: current node (${nodeId}) is now its only manager.\n`);
  await printRecovery(context);
  await printJoinCommand(context, nodeId, 'worker');
  const own = await client.get<{ Swarm: SwarmInfo }>('/info');
  const manager = (own.Swarm.RemoteManagers ?? []).find((one) => one.NodeID === nodeId)?.Addr ?? 'HOST:PORT';
  const seconds = Math.max(30, Math.round((flags.number('await') ?? 0) / 1e9));
  say(
    context.out,
    `A worker of the former swarm keeps its containers if it is brought back within ${seconds} s. There:\n`,
  );
  say(context.out, `    shoal swarm rejoin ${manager}\n`);
  say(context.out, "To add a manager to this swarm, run 'shoal swarm join-token manager' and follow the instructions.");
}

async function rejoin(context: Context, _flags: Flags, words: readonly string[]): Promise<void> {
  await context.client.post('/shoal/swarm/rejoin', { RemoteAddrs: words });
  say(context.out, 'This node is back in its swarm.');
}

export const swarmBackupCommands: CommandGroup = {
  backup: {
    usage: 'FILE',
    arguments: exactly(1),
    options: [
      PASSPHRASE,
      option('inspect', 'bool', 'Check a backup and show what is in it'),
      option('format', 'string', "Format of --inspect: 'json'"),
      option('stale', 'bool', 'Without a leader: take what this manager has'),
    ],
    run: backup,
  },
  restore: {
    usage: 'FILE',
    arguments: exactly(1),
    options: [
      PASSPHRASE,
      option('advertise-addr', 'string', 'Address that other nodes are told (<ip|interface>[:port])'),
      option('data-path-addr', 'string', "Address or interface of the containers' traffic"),
      option('listen-addr', 'string', 'Address to listen on (<ip|interface>[:port])', {
        initial: '0.0.0.0:2377',
        shown: '0.0.0.0:2377',
      }),
      option('await', 'duration', 'How long former nodes are awaited before what they ran is started elsewhere', {
        parse: parseDuration,
        shown: '30s',
      }),
      option('availability', 'string', 'Whether the node takes tasks ("active", "pause", "drain")', {
        shown: '"active"',
      }),
    ],
    run: restore,
  },
  rejoin: { usage: 'HOST:PORT [HOST:PORT...]', arguments: between(1, 64), run: rejoin },
};
