import { readFileSync } from 'node:fs';
import { AF_UNIX, errorMessage, invalidArgument, isShoalError } from '../../base/index.ts';
import { closeFd, SOCK_STREAM, socketAddressUnix, sockets, unreachable } from '../../base/index.ts';
import { resolveUser } from '../runtime/users.ts';
import type { IdMapping } from '../types.ts';
import { hostRoot } from '../userns/ids.ts';
import { errnoOf, Input, Output, pathOfText, pathText } from './bytes.ts';
import { archiveChanges, changesSize, ChangeWalk, treeSize } from './changes.ts';
import { Extractor } from './extract.ts';
import { absolutePath, pathStat, realPath } from './stat.ts';
import { TarWriter } from './tar-write.ts';
import { archiveResource, archiveRoot, mustLook } from './tree-archive.ts';
import { enterView } from './view.ts';
import type { FileChange, Job, Reply, Task } from './words.ts';

/*
 * The file helper: a process for one job on the files of a container. It confines itself to the view of its job before
 * it touches a file, so that nothing in a container can lead it outside, and it uses synchronous calls alone.
 */

/** Pieces of long answers, entries. */
const CHANGES_PER_LINE = 1000;

function line(out: Output, value: unknown): void {
  out.write(Buffer.from(`${JSON.stringify(value)}\n`));
}

const shown = (change: FileChange): FileChange => ({ ...change, path: pathText(change.path) });

/** Whether a path is in a mount of its own, and whether that may be written. The innermost mount counts. */
function checkWritable(task: Extract<Task, { kind: 'write' }>, path: string): void {
  const over = task.mounts
    .filter(({ target }) => path === target || path.startsWith(`${target.replace(/\/$/, '')}/`))
    .sort((a, b) => b.target.length - a.target.length)[0];
  if (over?.readOnly === true) throw invalidArgument('mounted volume is marked read-only');
  if (over === undefined && task.readOnlyRoot) throw invalidArgument('container rootfs is marked read-only');
}

function write(task: Extract<Task, { kind: 'write' }>, socket: number, ids: IdMapping | undefined): void {
  const wanted = absolutePath(pathOfText(task.path));
  const target = realPath(wanted);
  if (!mustLook(target).isDirectory()) throw invalidArgument('extraction point is not a directory');
  checkWritable(task, pathText(target));
  const owner = task.owner === '' ? undefined : resolveUser('/', task.owner);
  const { noOverwriteDirNonDir } = task;
  new Extractor(target, { noOverwriteDirNonDir, owner, ids }).run(new Input(socket));
}

function perform({ task, ids }: Job, socket: number): void {
  const out = new Output(socket);
  switch (task.kind) {
    case 'stat':
    case 'read': {
      const path = absolutePath(pathOfText(task.path));
      const stats = mustLook(path);
      line(out, pathStat(path, stats));
      if (task.kind === 'read') {
        const writer = new TarWriter(out, ids);
        archiveResource(writer, path, stats);
        writer.finish();
      }
      break;
    }
    case 'write':
      write(task, socket, ids);
      break;
    case 'export': {
      const writer = new TarWriter(out, ids);
      archiveRoot(writer);
      writer.finish();
      break;
    }
    case 'changes': {
      const changes = new ChangeWalk(task).run().map(shown);
      for (let at = 0; at < changes.length; at += CHANGES_PER_LINE) line(out, changes.slice(at, at + CHANGES_PER_LINE));
      break;
    }
    case 'layer': {
      const writer = new TarWriter(out, ids);
      archiveChanges(writer, task.merged, new ChangeWalk(task).run());
      writer.finish();
      break;
    }
    case 'changes-size':
      line(out, changesSize(task.merged, new ChangeWalk(task).run()));
      break;
    case 'sizes':
      line(
        out,
        task.paths.map((path) => treeSize(path, new Set(task.ignored.map((place) => path + place)))),
      );
      break;
    default:
      unreachable(task);
  }
  out.flush();
}

/** What a failed call means to the user, without the paths of system calls. */
function replyTo(error: unknown): Reply {
  const message = errorMessage(error);
  if (isShoalError(error, 'InvalidArgument')) return { ok: false, code: 'InvalidArgument', message };
  if (errnoOf(error) === 'ENOENT') return { ok: false, code: 'NotFound', message };
  const known: Readonly<Record<string, string>> = {
    ENOTDIR: 'not a directory',
    ELOOP: 'too many levels of symbolic links',
    EROFS: 'container rootfs is marked read-only',
  };
  const text = known[errnoOf(error)];
  if (text !== undefined) return { ok: false, code: 'InvalidArgument', message: text };
  return { ok: false, code: 'Internal', message };
}

function main(): void {
  const job = JSON.parse(readFileSync(0, 'utf8')) as Job;
  let reply: Reply = { ok: true };
  const socket = sockets.open(AF_UNIX, SOCK_STREAM);
  sockets.connect(socket, socketAddressUnix(job.socket));
  try {
    enterView(job.view, hostRoot(job.ids));
    perform(job, socket);
  } catch (error) {
    reply = replyTo(error);
  }
  closeFd(socket);
  process.stdout.write(JSON.stringify(reply));
}

main();
