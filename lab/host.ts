import { spawn } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { httpCall, ShoalError, systemClock } from '../base/index.ts';
import { killCgroup, makeCgroup, removeCgroup } from './cgroups.ts';
import { linkHost } from './network.ts';
import type { LabNames } from './names.ts';

/** A daemon that has not answered after this time has failed, ms. */
const DAEMON_START_TIMEOUT_MS = 30_000;
const POLL_MS = 20;

export interface HostOptions {
  names: LabNames;
  host: string;
  address: string;
  prefix: number;
  gateway: string;
  /** Subnet of the lab; registries in it are spoken to without TLS. */
  subnet: string;
  /** More flags for the daemon. */
  daemonFlags: readonly string[];
}

/** Process id in a file, or 0 when there is none or it no longer runs. */
export function livePid(file: string): number {
  if (!existsSync(file)) return 0;
  const pid = Number(readFileSync(file, 'utf8').trim());
  if (!Number.isSafeInteger(pid) || pid <= 1) return 0;
  try {
    // A killed child of a gone parent may linger as a zombie until it is reaped.
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /, '')[0];
    return state === 'Z' || state === 'X' ? 0 : pid;
  } catch {
    return 0;
  }
}

/** The `shoal` program that the lab starts: the one it belongs to. */
function shoalProgram(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, 'bin', 'shoal'))) {
    const up = dirname(dir);
    if (up === dir) throw new ShoalError('NotFound', 'bin/shoal was not found beside the lab program');
    dir = up;
  }
  return join(dir, 'bin', 'shoal');
}

/** The words that start the program with the running node, and with the flags and variables that it gives a daemon. */
function shoalWords(): string[] {
  const program = shoalProgram();
  const words = /^':'.* daemon\) exec (.*?) "\$0"/m.exec(readFileSync(program, 'utf8'))?.[1]?.split(' ') ?? ['node'];
  return [...words.map((word) => (word === 'node' ? process.execPath : word)), program];
}

export class Host {
  readonly #options: HostOptions;

  constructor(options: HostOptions) {
    this.#options = options;
  }

  get #runDir(): string {
    return this.#options.names.hostRunDir(this.#options.host);
  }

  get #execDir(): string {
    return join(this.#runDir, 'exec');
  }

  get #cgroup(): string {
    return this.#options.names.hostCgroup(this.#options.host);
  }

  get dockerHost(): string {
    return this.#options.names.dockerHost(this.#options.host);
  }

  get logFile(): string {
    return join(this.#runDir, 'daemon.log');
  }

  /** Process that holds the namespaces, 0 when the host does not exist. */
  holderPid(): number {
    return livePid(join(this.#runDir, 'holder.pid'));
  }

  daemonPid(): number {
    return livePid(join(this.#runDir, 'daemon.pid'));
  }

  /** Makes the host if it does not exist. */
  async create(): Promise<void> {
    if (this.holderPid() !== 0) return;
    const { names, host, address, prefix, gateway } = this.#options;
    mkdirSync(this.#runDir, { recursive: true });
    mkdirSync(names.hostDataDir(host), { recursive: true });
    const procs = makeCgroup(this.#cgroup);
    const pidFile = join(this.#runDir, 'holder.pid');
    rmSync(pidFile, { force: true });
    // A host's /run is a tmpfs that is gone with the host. The file appears only when everything stands.
    const script =
      'echo $$ >"$1" && hostname "$2" && mkdir -p "$4" && mount -t tmpfs -o mode=0755 tmpfs "$4" && ' +
      'echo $$ >"$3.new" && mv "$3.new" "$3" && exec sleep 2147483647';
    const own = [procs, host, pidFile, this.#execDir];
    const child = spawn(
      'unshare',
      ['--net', '--mount', '--uts', '--propagation', 'private', 'sh', '-c', script, 'holder', ...own],
      { detached: true, stdio: 'ignore', cwd: '/' },
    );
    child.unref();
    await waitFor(() => this.holderPid() !== 0, 10_000, `host ${host} could not be made (unshare failed)`);
    await linkHost(names, { host, holder: this.holderPid(), address, prefix, gateway });
  }

  /** Starts the daemon and waits until it answers. @throws ShoalError Internal with the end of its log */
  async startDaemon(): Promise<void> {
    if (this.daemonPid() !== 0) return;
    this.launchDaemon();
    await this.waitForDaemon();
  }

  /** Starts the daemon without waiting. */
  launchDaemon(): void {
    const { names, host, address, subnet, daemonFlags } = this.#options;
    const log = openSync(this.logFile, 'a', 0o600);
    const pidFile = join(this.#runDir, 'daemon.pid');
    rmSync(pidFile, { force: true });
    const daemon = [
      ...[...shoalWords(), 'daemon', '--data-root', join(names.hostDataDir(host), 'shoal')],
      ...['--exec-root', this.#execDir, '--pidfile', pidFile, '-H', this.dockerHost],
      ...['--cgroup-parent', `/${this.#cgroup}/containers`, '--insecure-registry', subnet],
      ...['--swarm-default-advertise-addr', address, ...daemonFlags],
    ];
    const holder = String(this.holderPid());
    const enter = ['--target', holder, '--net', '--mount', '--uts', '--', ...daemon];
    const child = spawn('sh', ['-c', 'echo $$ >"$0" && exec nsenter "$@"', makeCgroup(this.#cgroup), ...enter], {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: '/',
    });
    child.unref();
    closeSync(log);
  }

  async waitForDaemon(): Promise<void> {
    const { host } = this.#options;
    const began = systemClock.monotonic();
    const seen = { pid: 0 };
    for (;;) {
      if (await this.answers()) return;
      seen.pid = this.daemonPid() || seen.pid;
      const gone = seen.pid !== 0 && this.daemonPid() === 0;
      if (gone || systemClock.monotonic() - began > DAEMON_START_TIMEOUT_MS) {
        throw new ShoalError('Internal', `the daemon of ${host} did not start; its log ends:\n${this.logTail()}`);
      }
      await systemClock.sleep(POLL_MS);
    }
  }

  async answers(): Promise<boolean> {
    try {
      const answer = await httpCall({ host: this.dockerHost, method: 'HEAD', path: '/_ping', timeoutMs: 2_000 });
      answer.body.resume();
      return answer.status === 200;
    } catch {
      return false;
    }
  }

  logTail(lines = 15): string {
    if (!existsSync(this.logFile)) return '(no log)';
    return readFileSync(this.logFile, 'utf8').trimEnd().split('\n').slice(-lines).join('\n');
  }

  /** Sends a signal to the daemon. @throws ShoalError FailedPrecondition when it does not run */
  signalDaemon(signal: NodeJS.Signals): void {
    const pid = this.daemonPid();
    if (pid === 0) throw new ShoalError('FailedPrecondition', `the daemon of ${this.#options.host} does not run`);
    process.kill(pid, signal);
  }

  /** SIGKILL, and waits until the process is gone. */
  async killDaemon(): Promise<void> {
    this.signalDaemon('SIGKILL');
    await waitFor(() => this.daemonPid() === 0, 5_000, `the daemon of ${this.#options.host} does not end`);
  }

  /** The host vanishes with everything that runs on it; its disk stays. */
  async crash(): Promise<void> {
    await killCgroup(this.#cgroup);
    removeCgroup(this.#cgroup);
    rmSync(this.#execDir, { recursive: true, force: true });
    rmSync(this.#options.names.socket(this.#options.host), { force: true });
  }
}

/** Waits for a condition. @throws ShoalError DeadlineExceeded with `message` */
export async function waitFor(condition: () => boolean, timeoutMs: number, message: string): Promise<void> {
  const began = systemClock.monotonic();
  while (!condition()) {
    if (systemClock.monotonic() - began > timeoutMs) throw new ShoalError('DeadlineExceeded', message);
    await systemClock.sleep(POLL_MS);
  }
}
