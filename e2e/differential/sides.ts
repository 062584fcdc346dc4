import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { directSpawner, must } from '../../base/index.ts';
import {
  dockerdAnswers,
  Lab,
  launchDockerd,
  makeMountPoints,
  removeMountPoints,
  writeBusyboxArchive,
  writeBusyboxImage,
} from '../../lab/index.ts';
import { DOCKER } from '../kit/index.ts';
import type { Answer, Places } from './compare.ts';

/** A command that takes longer has hung, s; it is killed with all that it started. */
const COMMAND_TIMEOUT_S = 20;
/** What dockerd 20.10 speaks; the same is spoken to Shoal, so that both answer in the same version's words. */
const API_VERSION = '1.41';

/** What the recorded lines may use besides docker. Both give up by the timeout of the whole command. */
const FUNCTIONS = `
says() { until docker logs "$1" 2>&1 | grep -q "$2"; do sleep 0.05; done; }
state() { until [ "$(docker inspect --format '{{.State.Status}}' "$1")" = "$2" ]; do sleep 0.05; done; }
`;

/** One engine on one lab host, with a directory that its commands run in. */
export class EngineSide {
  readonly lab: Lab;
  readonly #dir = mkdtempSync(join(tmpdir(), 'shoal-differential-'));

  constructor(name: 'docker' | 'shoal') {
    this.lab = new Lab(`e2e-diff-${name}-${process.pid}`);
  }

  /** Starts the engine and gives it the image. @param dockerd the program, or undefined for Shoal's daemon */
  async up(dockerd: string | undefined, files: Readonly<Record<string, string>>): Promise<void> {
    const options = { managers: 1, workers: 0, subnet: '', swarm: false, daemonFlags: [], daemons: false };
    const [host] = await this.lab.up(options);
    await this.#useNoNameServer(must(host, 'host').address);
    if (dockerd === undefined) {
      await this.lab.start('m1');
    } else {
      launchDockerd(this.lab, dockerd, 'm1');
      await dockerdAnswers(this.lab, 'm1');
    }
    for (const name of ['config', 'share']) mkdirSync(join(this.#dir, name));
    for (const [name, from] of Object.entries(files)) copyFileSync(from, join(this.#dir, name));
    writeFileSync(join(this.#dir, 'root.txt'), 'one\ntwo\n');
    const loaded = await this.run('docker load -i bb.tar');
    if (loaded.code !== 0) throw new Error(`the image could not be loaded: ${loaded.stderr}`);
  }

  /** The host asks itself for names, where nobody listens: they are refused at once, whatever this machine's own are. */
  async #useNoNameServer(address: string): Promise<void> {
    const file = join(this.#dir, 'resolv.conf');
    writeFileSync(file, `nameserver ${address}\n`);
    const result = await this.lab.capture('m1', ['mount', '--bind', file, '/etc/resolv.conf']);
    if (result.code !== 0) throw new Error(`/etc/resolv.conf: ${result.stderr.toString('utf8')}`);
  }

  async down(): Promise<void> {
    await this.lab.down();
    rmSync(this.#dir, { recursive: true, force: true });
  }

  /** Runs a recorded line with a shell; its standard input is empty. */
  async run(command: string): Promise<Answer> {
    const words = ['-s', 'KILL', String(COMMAND_TIMEOUT_S), 'sh', '-c', `${FUNCTIONS}${command}`];
    const result = await directSpawner.run({
      ...{ file: 'timeout', args: words, cwd: this.#dir, timeoutMs: (COMMAND_TIMEOUT_S + 5) * 1000 },
      env: {
        PATH: `${dirname(must(DOCKER, 'docker'))}:${process.env['PATH'] ?? ''}`,
        ...{ HOME: this.#dir, TERM: 'xterm', LC_ALL: 'C' },
        ...{ DOCKER_CONFIG: join(this.#dir, 'config'), DOCKER_API_VERSION: API_VERSION },
        DOCKER_HOST: this.lab.names.dockerHost('m1'),
      },
    });
    const [stdout, stderr] = [result.stdout.toString('utf8'), result.stderr.toString('utf8')];
    // Killed together with timeout itself.
    return result.code === null
      ? { code: -1, stdout, stderr: `${stderr}\n(hung)` }
      : { code: result.code, stdout, stderr };
  }

  /** What stands for this side's own directories and names in what it prints. */
  get places(): Places {
    const { names } = this.lab;
    return [
      [join(names.hostDataDir('m1'), 'docker'), '<data>'],
      [join(names.hostDataDir('m1'), 'shoal'), '<data>'],
      [names.hostRunDir('m1'), '<run>'],
      [names.dockerHost('m1'), '<host>'],
      [`/${names.hostCgroup('m1')}`, '<cgroup>'],
      [this.#dir, '<dir>'],
    ];
  }
}

/** Both engines, side by side. */
export class Sides {
  readonly docker = new EngineSide('docker');
  readonly shoal = new EngineSide('shoal');
  #made: string[] = [];

  async up(dockerd: string): Promise<void> {
    this.#made = makeMountPoints();
    const scratch = mkdtempSync(join(tmpdir(), 'shoal-differential-image-'));
    try {
      const files = { 'bb.tar': join(scratch, 'bb.tar'), 'root.tar': join(scratch, 'root.tar') };
      await writeBusyboxImage(files['bb.tar'], { name: 'bb:1', createdBy: 'shoal differential' });
      await writeBusyboxArchive(files['root.tar'], { 'data/kept': 'from the image\n' });
      await Promise.all([this.docker.up(dockerd, files), this.shoal.up(undefined, files)]);
    } finally {
      rmSync(scratch, { recursive: true, force: true });
    }
  }

  async down(): Promise<void> {
    await Promise.all([this.docker.down(), this.shoal.down()]);
    removeMountPoints(this.#made);
  }
}
