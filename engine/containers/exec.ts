import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { abortReason, conflict, invalidArgument, newHexId } from '../../base/index.ts';
import { inScope } from '../runtime/cgroup-driver.ts';
import { execFailure, lastRuntimeError } from '../runtime/conmon.ts';
import { identify, signalProcess } from '../runtime/process.ts';
import { processSpec } from '../runtime/spec.ts';
import type { Container, ExecOutcome, ExecRequest, ImageConfig } from '../types.ts';
import { hostProcessUser } from '../userns/ids.ts';
import type { Parts } from './parts.ts';

/** An exec that collects its output may run this long, ms. */
const EXEC_MAX_MS = 24 * 3600 * 1000;
const KILL_RETRY_MS = 20;
const SIGKILL = 9;

/**
 * Runs a command in a running container to its end. When `signal` aborts, the command is killed and the abort reason is
 * thrown. A command that cannot be started gives exit code 127 or 126 and the runtime's words on stderr.
 */
export async function runExec(
  parts: Parts,
  container: Container,
  image: ImageConfig,
  request: ExecRequest,
  signal: AbortSignal,
): Promise<ExecOutcome> {
  if (container.state !== 'running') throw conflict(`container ${container.id} is not running`);
  if (request.command.length === 0 || request.command[0] === '') throw invalidArgument('No exec command specified');
  if (signal.aborted) throw abortReason(signal);
  const base = join(parts.runtime.bundle(container.id), `exec-${newHexId(parts.random).slice(0, 16)}`);
  const files = { spec: `${base}.json`, log: `${base}.log`, pid: `${base}.pid` };
  const process = processSpec(
    {
      id: container.id,
      config: container.config,
      image,
      args: request.command,
      // The container's own view of its files, whatever it mounted since.
      rootPath: `/proc/${container.pid}/root`,
      defaultUlimits: parts.defaultUlimits,
    },
    {
      env: request.env,
      privileged: request.privileged,
      tty: false,
      ...(request.user === undefined ? {} : { user: request.user }),
      ...(request.workingDir === undefined ? {} : { workingDir: request.workingDir }),
    },
  );
  await writeFile(files.spec, JSON.stringify(process), { mode: 0o600 });
  let done = false;
  // The runtime writes the pid a little after it was started: look until it is there or the exec has ended.
  const kill = (): void => {
    void killByFile(files.pid).then((killed) => {
      if (!killed && !done) parts.clock.after(KILL_RETRY_MS, kill);
    });
  };
  signal.addEventListener('abort', kill, { once: true });
  try {
    if (signal.aborted) throw abortReason(signal);
    const program = parts.runtime.program({
      runtime: (await parts.runtimes.get(container.config.runtime)).path,
      ...hostProcessUser(container.config.idMapping, process.user),
    });
    const result = await parts.spawner.run({
      file: program.file,
      env: { ...parts.runtime.env, ...program.env },
      args: [
        ...parts.runtime.runtimeArgs(files.log, inScope(container)),
        ...['exec', '--process', files.spec, '--pid-file', files.pid, container.id],
      ],
      timeoutMs: EXEC_MAX_MS,
    });
    if (signal.aborted) throw abortReason(signal);
    const log = await readFile(files.log, 'utf8').catch(() => '');
    const words = lastRuntimeError(log);
    if (words !== undefined && words.startsWith('exec failed')) return refused(words);
    return { exitCode: result.code ?? 128 + SIGKILL, stdout: result.stdout, stderr: result.stderr };
  } finally {
    done = true;
    signal.removeEventListener('abort', kill);
    await Promise.all(Object.values(files).map((path) => rm(path, { force: true })));
  }
}

function refused(words: string): ExecOutcome {
  const { exitCode, message } = execFailure(words);
  return { exitCode, stdout: new Uint8Array(), stderr: Buffer.from(`${message}\n`) };
}

async function killByFile(path: string): Promise<boolean> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text !== '' && signalProcess(identify(Number(text)), SIGKILL);
}
