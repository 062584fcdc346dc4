import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { directSpawner, systemClock } from '../../base/index.ts';
import { cgroupRoots, killCgroup, removeCgroup } from '../../lab/index.ts';
import { ROOT } from './client.ts';
import { until } from './until.ts';

const NEEDED = ['/lib/systemd/systemd', '/usr/bin/dbus-daemon', '/usr/bin/systemd-run', '/usr/bin/unshare'];
const BOOT_TIMEOUT_MS = 20_000;
const COMMAND_TIMEOUT_MS = 60_000;

/** Whether a machine can be booted with this one's systemd. */
const hasSystemd = (): boolean => NEEDED.every((path) => existsSync(path));

export type GroupMode = 'hybrid' | 'v2';

/** The kinds of control groups that this kernel can give to a machine: hybrid where controllers are in v1, each alone. */
export function groupModes(): GroupMode[] {
  if (!hasSystemd()) return [];
  const names = readFileSync('/proc/self/cgroup', 'utf8').split('\n');
  const alone = ['memory', 'pids', 'cpu'].every((name) => names.some((line) => line.split(':')[1] === name));
  return alone ? ['hybrid', 'v2'] : ['v2'];
}

/** A machine whose init is systemd: it has processes, files, networks and control groups of its own. */
export class SystemdHost {
  readonly #base = mkdtempSync(join(tmpdir(), 'shoal-systemd-'));
  readonly #group = `shoal-e2e-systemd-${process.pid}`;
  #waiter = 0;

  /** @param mode which control groups it has. @throws when it does not answer in time */
  async boot(mode: GroupMode): Promise<void> {
    const groups = cgroupRoots().map((root) => join(root, this.#group));
    for (const group of groups) mkdirSync(group, { recursive: true });
    const files = groups.map((group) => join(group, 'cgroup.procs')).join('\n');
    const place = mkdtempSync(join(this.#base, 'overlay-'));
    const shown = [realpathSync(ROOT), realpathSync(join(ROOT, 'node_modules'))];
    const own = ['--fork', '--pid', '--mount', '--net', '--uts', '--ipc', '--propagation', 'private'];
    const words = [...own, 'sh', join(ROOT, 'e2e/kit/systemd-boot.sh'), mode, place, files, ...shown];
    const child = spawn('unshare', words, { detached: true, stdio: ['ignore', 'ignore', 'pipe'], cwd: '/' });
    this.#waiter = child.pid ?? 0;
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.unref();
    await until('systemd', BOOT_TIMEOUT_MS, async () => {
      if (child.exitCode !== null) throw new Error(`its boot has ended: ${said}`);
      const { words: answer } = await this.#enter('systemctl', 'is-active', 'dbus.service');
      if (answer.trim() !== 'active') throw new Error(`${answer} ${said}`);
      return true;
    });
  }

  /** The process that is its init, by our numbers. */
  #init(): string {
    const task = `/proc/${this.#waiter}/task/${this.#waiter}`;
    return readFileSync(join(task, 'children'), 'utf8').trim();
  }

  async #enter(...command: string[]): Promise<{ code: number | null; words: string }> {
    const spaces = ['--mount', '--pid', '--net', '--uts', '--ipc', '--cgroup', '--root', '--wd'];
    const { code, stdout, stderr } = await directSpawner.run({
      file: 'nsenter',
      args: ['--target', this.#init(), ...spaces, '--', ...command],
      timeoutMs: COMMAND_TIMEOUT_MS,
    });
    return { code, words: `${stdout.toString()}${stderr.toString()}` };
  }

  /** Runs a script of the shell in a unit of its own, and gives what it says on both outputs. */
  async run(script: string): Promise<string> {
    const path = `PATH=${process.env['PATH'] ?? ''}`;
    const unit = ['--quiet', '--pipe', '--wait', '--property', 'KillMode=process', '--setenv', path];
    const { words } = await this.#enter('systemd-run', ...unit, 'sh', '-c', `exec 2>&1; ${script}`);
    return words.trim();
  }

  /** Ends all of its processes, and takes down what it had here. Another can be booted then. */
  async down(): Promise<void> {
    await killCgroup(this.#group);
    await until('the end of systemd', BOOT_TIMEOUT_MS, () => !existsSync(`/proc/${this.#waiter}`));
    for (let attempt = 0; attempt < 100; attempt++) {
      try {
        removeCgroup(this.#group);
        break;
      } catch {
        // Groups of processes that have just ended are busy for a moment.
        await systemClock.sleep(20);
      }
    }
    rmSync(this.#base, { recursive: true, force: true });
    mkdirSync(this.#base, { recursive: true });
  }

  /** Whether anything of it is left here. */
  get gone(): boolean {
    rmSync(this.#base, { recursive: true, force: true });
    return cgroupRoots().every((root) => !existsSync(join(root, this.#group)));
  }
}
