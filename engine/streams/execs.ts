import { conflict, errorMessage, invalidArgument, newHexId, notFound, ShoalError } from '../../base/index.ts';
import type { Parts } from '../containers/parts.ts';
import { inScope } from '../runtime/cgroup-driver.ts';
import { ExecFailed } from '../runtime/conmon.ts';
import { identify, isAlive, requireAlive } from '../runtime/process.ts';
import { processSpec } from '../runtime/spec.ts';
import { hostProcessUser } from '../userns/ids.ts';
import type { Attached, Container, ExecCreateRequest, ExecSession, ImageConfig, TerminalSize } from '../types.ts';
import { parseDetachKeys } from './detach-keys.ts';
import { StreamHub } from './hub.ts';
import { PacketSocket } from './packet-socket.ts';

/** An ended exec is kept this long, so that its exit code can be asked for. */
export const ENDED_KEPT_MS = 5 * 60_000;
/** Execs kept of one container; the oldest that do not run make room. */
export const EXECS_KEPT_MAX = 1000;
/** conmon writes the exit code at once after its last output. */
const EXIT_CODE_WAIT_MS = 5000;
const EXIT_CODE_POLL_MS = 2;
const EXIT_KILLED = 137;
const EXIT_NOT_STARTED = 126;

interface Exec {
  session: ExecSession;
  detachKeys: Uint8Array;
  /** Set by the one start; resolves when the command runs, or it is known and told why not. */
  starting: Promise<void> | undefined;
  endedMs: number | undefined;
}

export type PublishExec = (containerId: string, action: string, attributes: Readonly<Record<string, string>>) => void;

/** Commands run in containers, each under a conmon of its own. Known to this daemon only; a restart forgets them. */
export class ExecSet {
  readonly #parts: Parts;
  readonly #publish: PublishExec;
  readonly #execs = new Map<string, Exec>();

  constructor(parts: Parts, publish: PublishExec) {
    this.#parts = parts;
    this.#publish = publish;
  }

  /** @throws ShoalError Conflict, InvalidArgument, ResourceExhausted */
  create(container: Container, request: ExecCreateRequest): string {
    requireRunning(container);
    if (request.command.length === 0 || request.command[0] === '') throw invalidArgument('No exec command specified');
    const detachKeys = parseDetachKeys(request.detachKeys);
    this.#makeRoom(container.id);
    const id = newHexId(this.#parts.random);
    const session: ExecSession = {
      id,
      containerId: container.id,
      request,
      running: false,
      exitCode: undefined,
      pid: 0,
    };
    this.#execs.set(id, { session, detachKeys, starting: undefined, endedMs: undefined });
    this.#publish(container.id, `exec_create: ${request.command.join(' ')}`, { execID: id });
    return id;
  }

  #makeRoom(containerId: string): void {
    const nowMs = this.#parts.clock.monotonic();
    const own: Exec[] = [];
    for (const [id, exec] of this.#execs) {
      const over = exec.endedMs !== undefined && nowMs - exec.endedMs > ENDED_KEPT_MS;
      if (over || this.#parts.find(exec.session.containerId) === undefined) this.#execs.delete(id);
      else if (exec.session.containerId === containerId) own.push(exec);
    }
    if (own.length < EXECS_KEPT_MAX) return;
    const oldest = own.find((exec) => !exec.session.running);
    if (oldest === undefined) {
      throw new ShoalError(
        'ResourceExhausted',
        `${EXECS_KEPT_MAX} commands run in container ${containerId} already; end some of them first`,
      );
    }
    this.#execs.delete(oldest.session.id);
  }

  #get(id: string): Exec {
    const exec = this.#execs.get(id);
    if (exec === undefined || this.#parts.find(exec.session.containerId) === undefined)
      throw notFound(`No such exec instance: ${id}`);
    return exec;
  }

  inspect(id: string): ExecSession {
    return { ...this.#get(id).session };
  }

  ids(containerId: string): string[] {
    return [...this.#execs.values()]
      .filter((exec) => exec.session.containerId === containerId)
      .map((exec) => exec.session.id);
  }

  containerOf(id: string): string {
    return this.#get(id).session.containerId;
  }

  async start(
    id: string,
    container: Container,
    options: { detach: boolean; consoleSize?: TerminalSize },
  ): Promise<Attached | undefined> {
    const exec = this.#get(id);
    requireRunning(container);
    if (exec.session.exitCode !== undefined) throw conflict(`exec command ${id} has already run`);
    if (exec.starting !== undefined) throw conflict(`exec command ${id} is already running`);
    exec.session.running = true;
    const { request } = exec.session;
    const hub = new StreamHub({
      clock: this.#parts.clock,
      log: this.#parts.log.with({ exec: id }),
      beforeEnd: () => this.#ended(exec),
    });
    const wants = { stdin: request.attachStdin, stdout: request.attachStdout, stderr: request.attachStderr };
    const attached = options.detach ? undefined : hub.attach(wants, request.tty, exec.detachKeys);
    this.#publish(container.id, `exec_start: ${request.command.join(' ')}`, { execID: id });
    const running = this.#run(exec, container, hub, options.consoleSize ?? request.consoleSize);
    exec.starting = running.catch((error: unknown) => {
      hub.tell(`${errorMessage(error)}\r\n`);
      hub.end();
    });
    if (options.detach) await running;
    return attached;
  }

  /** @throws ExecFailed, ShoalError when the command cannot be started; its exit code then stands already. */
  async #run(exec: Exec, container: Container, hub: StreamHub, size: TerminalSize | undefined): Promise<void> {
    const { session } = exec;
    const { request } = session;
    const { runtime } = this.#parts;
    const directory = runtime.execDirectory(session.id);
    const process = { tty: request.tty, stdinOnce: !request.tty, alive: () => isAlive(identify(session.pid)) };
    try {
      const command = this.#process(container, request, size);
      const started = {
        containerId: container.id,
        sessionId: session.id,
        process: command,
        ...hostProcessUser(container.config.idMapping, command.user),
        openStdin: request.attachStdin,
        runtime: (await this.#parts.runtimes.get(container.config.runtime)).path,
        systemdGroup: inScope(container),
      };
      session.pid = await runtime.exec(started, () => connected(hub, directory, process));
      // conmon makes the terminal non-blocking for whoever connects when it is there; the first came before it.
      if (request.tty) touch(directory);
    } catch (error) {
      Object.assign(session, {
        running: false,
        exitCode: error instanceof ExecFailed ? error.exitCode : EXIT_NOT_STARTED,
      });
      exec.endedMs = this.#parts.clock.monotonic();
      await runtime.forgetExec(session.id);
      // The runtime's words for a container that has just ended or was paused say less.
      requireRunning(container);
      requireAlive(container);
      throw error;
    }
  }

  #process(
    container: Container,
    request: ExecCreateRequest,
    size: TerminalSize | undefined,
  ): ReturnType<typeof processSpec> {
    const process = processSpec(
      {
        id: container.id,
        config: container.config,
        image: this.#imageConfig(container.imageId),
        args: request.command,
        // The container's own view of its files, whatever it mounted since.
        rootPath: `/proc/${container.pid}/root`,
        defaultUlimits: this.#parts.defaultUlimits,
      },
      {
        env: request.env,
        privileged: request.privileged,
        tty: request.tty,
        ...(request.user === undefined ? {} : { user: request.user }),
        ...(request.workingDir === undefined ? {} : { workingDir: request.workingDir }),
      },
    );
    return { ...process, ...(request.tty && size !== undefined ? { consoleSize: size } : {}) };
  }

  #imageConfig(imageId: string): ImageConfig {
    try {
      return this.#parts.images.get(imageId).config;
    } catch {
      // Its image was removed by force; the container keeps what it has.
      return {};
    }
  }

  /** All output is there: the exit code follows. */
  async #ended(exec: Exec): Promise<void> {
    const { session } = exec;
    const { clock, runtime } = this.#parts;
    // The shortest command ends before its start is known.
    await exec.starting;
    // A refused start ends the connection too; it is recorded already.
    if (!session.running) return;
    let exitCode: number | undefined;
    for (let waitedMs = 0; exitCode === undefined && waitedMs < EXIT_CODE_WAIT_MS; waitedMs += EXIT_CODE_POLL_MS) {
      exitCode = await runtime.execExitCode(session.containerId, session.id);
      if (exitCode === undefined) await clock.sleep(EXIT_CODE_POLL_MS);
    }
    Object.assign(session, { running: false, exitCode: exitCode ?? EXIT_KILLED });
    exec.endedMs = clock.monotonic();
    await runtime.forgetExec(session.id);
    this.#publish(session.containerId, 'exec_die', { execID: session.id, exitCode: String(session.exitCode) });
  }

  async resize(id: string, size: TerminalSize): Promise<void> {
    const { session, starting } = this.#get(id);
    // Clients tell the size while the command is being started.
    await starting;
    if (!session.running) throw conflict(`exec ${id} is not running`);
    this.#parts.runtime.resize(this.#parts.runtime.execDirectory(id), size.height, size.width);
  }
}

function requireRunning({ id, state }: Container): void {
  if (state === 'paused') throw conflict(`container ${id} is paused, unpause the container before exec`);
  if (state === 'restarting') throw conflict(`container ${id} is restarting, wait until the container is running`);
  if (state !== 'running') throw conflict(`container ${id} is not running`);
}

function connected(hub: StreamHub, directory: string, process: Parameters<StreamHub['connect']>[1]): boolean {
  try {
    hub.connect(directory, process);
    return true;
  } catch {
    // conmon does not listen yet; the caller knows when it never will.
    return false;
  }
}

function touch(directory: string): void {
  try {
    new PacketSocket(directory, { onData: () => true, onEnd: () => undefined }).destroy();
  } catch {
    // It has ended already.
  }
}
