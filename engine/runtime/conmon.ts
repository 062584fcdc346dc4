import { closeSync, constants, existsSync, openSync, readSync, writeSync } from 'node:fs';
import { readFile, unlink, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeFifo, unavailable, type Clock, type Spawner } from '../../base/index.ts';
import { execFailure, lastRuntimeError, startFailure } from './runtime-words.ts';
import type { OciProcess } from './oci.ts';
import { outputOwnerEnv, writeOutputOwner, type HostUser } from './output-owner.ts';
import { identify, isAlive, type ProcessIdentity } from './process.ts';

export { ExecFailed, execFailure, lastRuntimeError, StartFailed, startFailure } from './runtime-words.ts';

/** Digits of the id that name the attach socket's directory: a unix socket path has at most 107 bytes. */
const SOCKET_NAME_DIGITS = 32;
const CREATE_TIMEOUT_MS = 60_000;
const FIFO_POLL_MS = 1;
const FIFO_POLLS_MAX = 5000;
/** Message of conmon's ctl fifo that makes it open its log file anew (conmon ctrl.c). */
const CTL_REOPEN_LOGS = '2 0 0\n';
/** Message of the same fifo that sets the size of the terminal: this number, then rows and columns. */
const CTL_RESIZE = 1;

export interface RuntimePaths {
  /** The OCI runtime's program. */
  runtime: string;
  conmon: string;
  /** The runtime's own state (`--root`). */
  stateRoot: string;
  exitDir: string;
  /** Bundles, one directory per container. */
  bundleRoot: string;
  attachDir: string;
  /** Files of exec sessions, one directory each. */
  execDir: string;
  /** Where the program stands that gives pipes away; on a file system that programs may be run from. */
  outputOwner: string;
  /** Arguments that this version of conmon knows. */
  conmonArgs: readonly string[];
}

export interface MonitorRequest {
  id: string;
  /** conmon's log argument: `k8s-file:<path>` or `null`. */
  log: string;
  /** Bytes after which conmon starts its file anew; 0 for never. */
  logSizeMax: number;
  tty: boolean;
  openStdin: boolean;
  /** The process' standard input ends with the first client that ends its own. */
  stdinOnce: boolean;
  /** Program of the OCI runtime; left out: the daemon's own. */
  runtime?: string;
  /** Whoever the process is on the host, when its container has other users; left out: the runtime sees to it. */
  outputOwner?: HostUser;
  /** Its control group is made by systemd. */
  systemdGroup: boolean;
}

export interface ExecMonitorRequest {
  containerId: string;
  /** 64 hexadecimal digits. */
  sessionId: string;
  process: OciProcess;
  openStdin: boolean;
  /** Program of the container's OCI runtime; left out: the daemon's own. */
  runtime?: string;
  outputOwner?: HostUser;
  /** The container's control group was made by systemd. */
  systemdGroup: boolean;
}

export interface Monitored {
  init: ProcessIdentity;
  conmon: ProcessIdentity | undefined;
}

/** Starts containers: the OCI runtime under conmon. */
export class Runtime {
  readonly paths: RuntimePaths;
  readonly #spawner: Spawner;
  readonly #clock: Clock;
  /** Environment of programs. */
  readonly env: Readonly<Record<string, string>>;

  constructor(paths: RuntimePaths, spawner: Spawner, clock: Clock) {
    this.paths = paths;
    this.#spawner = spawner;
    this.#clock = clock;
    this.env = Object.fromEntries(
      Object.entries(process.env).filter((entry): entry is [string, string] => {
        return entry[1] !== undefined;
      }),
    );
  }

  bundle(id: string): string {
    return join(this.paths.bundleRoot, id);
  }

  /** Whether conmon saw processes of the container's present run killed for lack of memory. */
  sawOutOfMemory(id: string): boolean {
    return existsSync(join(this.bundle(id), 'oom'));
  }

  exitFile(id: string): string {
    return join(this.paths.exitDir, id);
  }

  /**
   * Arguments of the runtime itself, before its verb. runc, crun and youki have the same.
   * @param systemdGroup the container's control group is made by systemd
   */
  runtimeArgs(logFile: string, systemdGroup: boolean): string[] {
    const args = ['--root', this.paths.stateRoot, '--log', logFile, '--log-format', 'json'];
    return systemdGroup ? ['--systemd-cgroup', ...args] : args;
  }

  #runtimeWords(logFile: string, systemdGroup: boolean): string[] {
    return this.runtimeArgs(logFile, systemdGroup).flatMap((argument) => ['--runtime-arg', argument]);
  }

  /** What is run as the runtime, and what it needs to know. */
  program(request: Pick<MonitorRequest, 'runtime' | 'outputOwner'>): { file: string; env: Record<string, string> } {
    const runtime = request.runtime ?? this.paths.runtime;
    if (request.outputOwner === undefined) return { file: runtime, env: {} };
    return { file: this.paths.outputOwner, env: outputOwnerEnv(runtime, request.outputOwner) };
  }

  #conmonArgs(request: MonitorRequest): string[] {
    const { id } = request;
    const bundle = this.bundle(id);
    const args = ['--api-version', '1', '-c', id, '-n', id, '-u', id.slice(0, SOCKET_NAME_DIGITS)];
    args.push('-r', this.program(request).file);
    args.push(...this.#runtimeWords(join(bundle, 'runtime.log'), request.systemdGroup));
    args.push('-b', bundle, '-p', join(bundle, 'pid'), '-P', join(bundle, 'conmon.pid'));
    args.push('-l', request.log, '--exit-dir', this.paths.exitDir, '--socket-dir-path', this.paths.attachDir);
    args.push('--log-level', 'error', ...this.paths.conmonArgs);
    if (request.logSizeMax > 0) args.push('--log-size-max', String(request.logSizeMax));
    if (request.tty) args.push('-t');
    if (request.openStdin) args.push('-i', ...(request.stdinOnce ? [] : ['--leave-stdin-open']));
    return args;
  }

  /**
   * Creates the container whose bundle stands ready; its process waits to be let go by `release`.
   * @throws StartFailed with the runtime's words.
   */
  async create(request: MonitorRequest): Promise<Monitored> {
    const bundle = this.bundle(request.id);
    const errFile = join(bundle, 'conmon.err');
    // A start that failed late may have left one after it was taken down.
    await rm(this.exitFile(request.id), { force: true });
    const result = await this.#spawner.run({
      file: this.paths.conmon,
      args: this.#conmonArgs(request),
      // conmon leaves a file `oom` in its working directory when the container runs out of memory.
      cwd: bundle,
      // conmon goes into the background and writes one line (pid or error of the runtime) to the descriptor named here.
      env: { ...this.env, ...this.program(request).env, _OCI_SYNCPIPE: '3', GOMAXPROCS: '1', GOGC: 'off' },
      statusLine: { stderrFile: errFile },
      timeoutMs: CREATE_TIMEOUT_MS,
    });
    const line = result.stdout.toString('utf8').trim();
    const reply = parseSync(line);
    if (reply !== undefined && reply.data > 0) {
      const init = identify(reply.data);
      // A process that ended between create and here is found by its exit file.
      return { init: init ?? { pid: reply.data, startTicks: 0 }, conmon: await this.#conmonOf(bundle) };
    }
    const runtimeLog = await readFile(join(bundle, 'runtime.log'), 'utf8').catch(() => '');
    const monitorWords = await readFile(errFile, 'utf8').catch(() => '');
    throw startFailure(lastRuntimeError(runtimeLog) ?? (reply?.message || monitorWords || 'conmon gave no reason'));
  }

  async #conmonOf(bundle: string): Promise<ProcessIdentity | undefined> {
    const text = await readFile(join(bundle, 'conmon.pid'), 'utf8').catch(() => '');
    return text === '' ? undefined : identify(Number(text));
  }

  /**
   * Lets the created process run its command. It waits in open(2) for a reader of exec.fifo and writes one byte; taking
   * that byte and removing the file is all that `runc start` does, without a process. Opening for read and write never
   * blocks (fifo(7)), so no thread is held if the process died.
   */
  async release(id: string, init: ProcessIdentity, runtime = this.paths.runtime): Promise<void> {
    const path = join(this.paths.stateRoot, id, 'exec.fifo');
    let fd: number;
    try {
      fd = openSync(path, constants.O_RDWR | constants.O_NONBLOCK);
    } catch (error) {
      // Another runtime has another way to wait: ask it.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return this.#runtimeStart(id, runtime);
      throw error;
    }
    try {
      const byte = Buffer.alloc(1);
      for (let poll = 0; poll < FIFO_POLLS_MAX; poll++) {
        const ended = !isAlive(init);
        // Looked at after its life: a short command may have been taken up and be over by now.
        if (readByte(fd, byte)) {
          await unlink(path);
          return;
        }
        if (ended) throw startFailure('the container process ended before it could be started');
        await this.#clock.sleep(FIFO_POLL_MS);
      }
    } finally {
      closeSync(fd);
    }
    throw unavailable(`container ${id}: its process does not take up its command; try again`);
  }

  async #runtimeStart(id: string, runtime: string): Promise<void> {
    const log = join(this.bundle(id), 'runtime.log');
    const result = await this.#spawner.run({
      file: runtime,
      // It only lets go: whoever made the control group.
      args: [...this.runtimeArgs(log, false), 'start', id],
    });
    if (result.code === 0) return;
    const words = lastRuntimeError(await readFile(log, 'utf8').catch(() => '')) ?? result.stderr.toString('utf8');
    throw startFailure(words);
  }

  /** Makes conmon write to a new log file; false when it is not listening. Never blocks. */
  reopenLogs(id: string): boolean {
    return writeNonBlocking(join(this.bundle(id), 'ctl'), CTL_REOPEN_LOGS);
  }

  /**
   * Sets the size of the terminal whose conmon stands in `directory` (a bundle, or an exec session's); false when there
   * is none. Never blocks.
   */
  resize(directory: string, height: number, width: number): boolean {
    return writeNonBlocking(join(directory, 'ctl'), `${CTL_RESIZE} ${height} ${width}\n`);
  }

  /** The directory of an exec session: its conmon's files and sockets. */
  execDirectory(sessionId: string): string {
    return join(this.paths.execDir, sessionId.slice(0, SOCKET_NAME_DIGITS));
  }

  /**
   * Starts one more process in a running container, under a conmon of its own. The runtime begins only when `connect`
   * (called until it gives true) has reached the attach socket in the session's directory, so that no output is lost.
   * @returns the process' pid on the host
   * @throws ExecFailed with the runtime's words
   */
  async exec(request: ExecMonitorRequest, connect: () => boolean): Promise<number> {
    const directory = this.execDirectory(request.sessionId);
    const gatePath = join(directory, 'start');
    const errFile = join(directory, 'conmon.err');
    await mkdir(join(directory, 'exit'), { recursive: true, mode: 0o700 });
    await writeFile(join(directory, 'process.json'), JSON.stringify(request.process), { mode: 0o600 });
    makeFifo(gatePath);
    // Held open for reading too, so that opening it blocks neither side.
    const gate = openSync(gatePath, constants.O_RDWR | constants.O_NONBLOCK);
    try {
      // conmon takes one byte before it does anything, and one more before it starts the runtime (conmon.c).
      writeSync(gate, '1');
      let settled = false;
      const running = this.#spawner
        .run({
          file: this.paths.conmon,
          args: this.#execArgs(request, directory),
          cwd: directory,
          env: {
            ...this.env,
            ...this.program(request).env,
            _OCI_SYNCPIPE: '3',
            _OCI_STARTPIPE: '4',
            _OCI_ATTACHPIPE: '5',
            GOMAXPROCS: '1',
            GOGC: 'off',
          },
          statusLine: {
            stderrFile: errFile,
            files: [
              { path: gatePath, flags: 'r' },
              { path: '/dev/null', flags: 'w' },
            ],
          },
          timeoutMs: CREATE_TIMEOUT_MS,
        })
        .finally(() => (settled = true));
      running.catch(() => undefined);
      for (let poll = 0; poll < CREATE_TIMEOUT_MS && !settled; poll++) {
        if (connect()) {
          writeSync(gate, '1');
          break;
        }
        await this.#clock.sleep(FIFO_POLL_MS);
      }
      const reply = parseSync((await running).stdout.toString('utf8').trim());
      if (reply !== undefined && reply.data > 0) return reply.data;
      const log = await readFile(join(directory, 'runtime.log'), 'utf8').catch(() => '');
      const monitorWords = await readFile(errFile, 'utf8').catch(() => '');
      throw execFailure(lastRuntimeError(log) ?? (reply?.message || monitorWords || 'conmon gave no reason'));
    } finally {
      closeSync(gate);
    }
  }

  #execArgs(request: ExecMonitorRequest, directory: string): string[] {
    const id = request.containerId;
    const args = ['--api-version', '1', '-c', id, '-n', id, '-u', request.sessionId.slice(0, SOCKET_NAME_DIGITS)];
    args.push('-r', this.program(request).file);
    args.push(...this.#runtimeWords(join(directory, 'runtime.log'), request.systemdGroup));
    args.push('-b', directory, '-p', join(directory, 'pid'), '--full-attach', '-l', 'null');
    args.push('--exit-dir', join(directory, 'exit'), '--log-level', 'error');
    args.push('--exec', '--exec-attach', '--exec-process-spec', join(directory, 'process.json'));
    if (request.process.terminal) args.push('-t');
    if (request.openStdin) args.push('-i', ...(request.process.terminal ? ['--leave-stdin-open'] : []));
    return args;
  }

  /** The exit code of an exec session that conmon wrote, or undefined while there is none. */
  async execExitCode(containerId: string, sessionId: string): Promise<number | undefined> {
    const path = join(this.execDirectory(sessionId), 'exit', containerId);
    const text = (await readFile(path, 'utf8').catch(() => '')).trim();
    return text === '' ? undefined : Number(text);
  }

  /** Takes away what an ended exec session leaves. */
  async forgetExec(sessionId: string): Promise<void> {
    await rm(this.execDirectory(sessionId), { recursive: true, force: true });
  }

  /** Takes away what the runtime and conmon leave of an ended container, its exit file included. */
  async forget(id: string): Promise<void> {
    await Promise.all([
      rm(join(this.paths.stateRoot, id), { recursive: true, force: true }),
      rm(this.bundle(id), { recursive: true, force: true }),
      rm(this.exitFile(id), { force: true }),
      rm(join(this.paths.attachDir, id.slice(0, SOCKET_NAME_DIGITS)), { force: true }),
    ]);
  }

  /** Makes the directories that conmon expects. */
  async prepare(): Promise<void> {
    const { stateRoot, exitDir, bundleRoot, attachDir, execDir } = this.paths;
    // Sessions of an earlier daemon have no reader any more; their processes go on without.
    await rm(execDir, { recursive: true, force: true });
    for (const path of [stateRoot, exitDir, bundleRoot, attachDir, execDir]) {
      await mkdir(path, { recursive: true, mode: 0o700 });
    }
    await writeOutputOwner(this.paths.outputOwner);
  }
}

function parseSync(line: string): { data: number; message?: string } | undefined {
  try {
    const parsed = JSON.parse(line) as { data?: number; pid?: number; message?: string };
    const data = parsed.data ?? parsed.pid;
    if (typeof data !== 'number') return undefined;
    return { data, ...(parsed.message === undefined ? {} : { message: parsed.message }) };
  } catch {
    return undefined;
  }
}

function readByte(fd: number, into: Buffer): boolean {
  try {
    return readSync(fd, into, 0, 1, null) === 1;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EAGAIN') return false;
    throw error;
  }
}

function writeNonBlocking(fifo: string, text: string): boolean {
  let fd: number;
  try {
    fd = openSync(fifo, constants.O_WRONLY | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENXIO' || code === 'ENOENT') return false;
    throw error;
  }
  try {
    writeSync(fd, text);
    return true;
  } finally {
    closeSync(fd);
  }
}
