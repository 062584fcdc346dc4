import { copyFileSync, existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { readFileSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  directSpawner,
  mount,
  notFound,
  silentLogger,
  systemClock,
  systemRandom,
  unmount,
  type Spawner,
} from '../../base/index.ts';
import type { HostNetworks } from '../../overlay-net/index.ts';
import { Engine, type EngineOptions } from '../engine.ts';
import { readCgroupLayout } from '../runtime/cgroups.ts';
import type { ContainerConfig, EngineEvent, Image, ImageConfig, Images } from '../types.ts';
import type { LogLine, RootParts, Volumes } from '../types.ts';
import { hostRoot } from '../userns/ids.ts';
import { openVolumes, volumeUsers } from '../volumes/index.ts';

/** What the tests of this room run on: one busybox image, real overlay mounts, real runc and conmon. */
const APPLETS =
  'sh echo sleep ls cat id true false env head dd mkdir touch hostname nslookup ping ip seq yes grep wc trap tr';

export function makeRootfs(directory: string): string {
  const root = join(directory, 'image');
  for (const name of ['bin', 'proc', 'sys', 'dev', 'etc', 'tmp', 'root', 'data']) {
    mkdirSync(join(root, name), { recursive: true });
  }
  copyFileSync('/bin/busybox', join(root, 'bin/busybox'));
  for (const applet of APPLETS.split(' ')) symlinkSync('busybox', join(root, 'bin', applet));
  writeFileSync(join(root, 'etc/passwd'), 'root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1001::/home/web:/bin/sh\n');
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nweb:x:1001:\nextra:x:2002:web\nother:x:3003:\n');
  writeFileSync(join(root, 'data/seed'), 'from the image\n');
  writeFileSync(join(root, 'bin/not-a-program'), 'text\n', { mode: 0o644 });
  return root;
}

export class FakeImages implements Pick<
  Images,
  'get' | 'list' | 'mountRoot' | 'unmountRoot' | 'removeRoot' | 'rootParts'
> {
  readonly image: Image;
  readonly #lower: string;
  readonly #upperRoot: string;

  constructor(lower: string, upperRoot: string, config: ImageConfig) {
    this.#lower = lower;
    this.#upperRoot = upperRoot;
    this.image = {
      id: `sha256:${'1'.repeat(64)}`,
      repoTags: ['busybox:latest'],
      repoDigests: [],
      createdMs: 0,
      sizeBytes: 0,
      architecture: 'amd64',
      os: 'linux',
      variant: '',
      diffIds: [],
      config,
      history: [],
      author: '',
      comment: '',
    };
  }

  get(reference: string): Image {
    if (reference === 'busybox' || reference === this.image.id) return this.image;
    throw notFound(`No such image: ${reference}`);
  }

  list(): Image[] {
    return [this.image];
  }

  async mountRoot(id: string): Promise<string> {
    const base = join(this.#upperRoot, id);
    const merged = join(base, 'merged');
    if (isMounted(merged)) return merged;
    for (const name of ['upper', 'work', 'merged']) mkdirSync(join(base, name), { recursive: true });
    const data = `lowerdir=${this.#lower},upperdir=${base}/upper,workdir=${base}/work`;
    mount('overlay', merged, 'overlay', 0, data);
    return merged;
  }

  async unmountRoot(id: string): Promise<void> {
    const merged = join(this.#upperRoot, id, 'merged');
    if (isMounted(merged)) unmount(merged);
  }

  rootParts(id: string): RootParts {
    const [merged, upper, work] = ['merged', 'upper', 'work'].map((name) => join(this.#upperRoot, id, name));
    const layers = [{ path: this.#lower, removed: [], opaque: [] }];
    return { merged: merged as string, upper: upper as string, work: work as string, layers };
  }

  async removeRoot(id: string): Promise<void> {
    await this.unmountRoot(id);
    rmSync(join(this.#upperRoot, id), { recursive: true, force: true });
  }
}

function isMounted(path: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${path} `);
}

/** Networks that must not be asked for sandboxes. */
export function noNetworks(): HostNetworks {
  const nothing = async (): Promise<void> => undefined;
  return {
    start: nothing,
    stop: nothing,
    destroy: nothing,
    createSandbox: () => Promise.reject(new Error('no sandboxes here')),
    overlayNetworks: () => [],
    meshClashes: () => [],
    drainSandbox: nothing,
    removeSandbox: nothing,
    connectSandbox: () => Promise.reject(new Error('no sandboxes here')),
    disconnectSandbox: () => Promise.reject(new Error('no sandboxes here')),
    renameSandbox: nothing,
    keepSandboxes: nothing,
    setUnderlay: nothing,
    announceTable: () => undefined,
    setTable: nothing,
    leaveUnderlay: nothing,
    wireguardKey: () => new Uint8Array(),
    setNetworkKeys: nothing,
    removeTable: nothing,
    waitForNetwork: nothing,
    checkNetworks: () => Promise.reject(new Error('no networks here')),
    localNetworks: () => [],
    createLocalNetwork: () => Promise.reject(new Error('no networks here')),
    removeLocalNetwork: nothing,
  };
}

export interface Fixture {
  base: string;
  cgroupParent: string;
  images: FakeImages;
  /** Of the engine that was opened last. */
  volumes(): Volumes;
  events: EngineEvent[];
  open(networks?: HostNetworks, spawner?: Spawner): Promise<Engine>;
  /** Takes everything down, containers of a crashed engine included. */
  destroy(): Promise<void>;
}

/** @param base an existing directory of an earlier fixture, to open the same engine again. */
export function makeFixture(
  base = mkdtempSync(join(tmpdir(), 'shoal-')),
  imageConfig: ImageConfig = {},
  more: Partial<EngineOptions> = {},
): Fixture {
  const lower = existsSync(join(base, 'image')) ? join(base, 'image') : makeRootfs(base);
  const images = new FakeImages(lower, join(base, 'roots'), { Cmd: ['sh'], ...imageConfig });
  const last: { engine?: Engine; volumes?: Volumes } = {};
  const events: EngineEvent[] = [];
  // The last part of the directory's name is unique, also beside other runs.
  const cgroupParent = `shoal-test-${base.slice(-6)}`;
  const open: Fixture['open'] = async (networks = noNetworks(), spawner = directSpawner) => {
    const common = { spawner, clock: systemClock, random: systemRandom, log: silentLogger };
    const dataRoot = join(base, 'data');
    const volumes = await openVolumes({
      ...common,
      dataRoot,
      onEvent: (event) => events.push(event),
      usedBy: (name) => volumeUsers(last.engine?.containers.list() ?? [], name),
      pluginDirectories: [join(base, 'plugins')],
      ...(more.remap === undefined ? {} : { owner: hostRoot(more.remap) }),
    });
    last.volumes = volumes;
    last.engine = await Engine.open({
      ...common,
      dataRoot,
      execRoot: join(base, 'run'),
      networks,
      images: images as unknown as Images,
      volumes,
      cgroupParent,
      ...more,
    });
    return last.engine;
  };
  const destroy = async (): Promise<void> => {
    const engine = await open();
    for (const { id } of engine.containers.list()) {
      // One that removes itself is at it already.
      await engine.containers.remove(id, { force: true, volumes: true }).catch(() => undefined);
    }
    await until(() => engine.containers.list().length === 0, 'all containers are removed');
    await engine.shutdown();
    const layout = readCgroupLayout();
    for (const tree of new Set([...layout.controllers.values(), ...(layout.unified ? [layout.unified] : [])])) {
      if (existsSync(join(tree, cgroupParent))) rmdirSync(join(tree, cgroupParent));
    }
    if (isMounted(join(base, 'run/files'))) unmount(join(base, 'run/files'));
    rmSync(base, { recursive: true, force: true });
  };
  const volumes = (): Volumes => {
    if (last.volumes === undefined) throw new Error('no engine was opened');
    return last.volumes;
  };
  return { base, cgroupParent, images, volumes, events, open, destroy };
}

export function config(overrides: Partial<ContainerConfig> = {}): ContainerConfig {
  return {
    name: '',
    image: 'busybox',
    env: [],
    labels: {},
    tty: false,
    openStdin: false,
    readOnlyRootfs: false,
    init: false,
    mounts: [],
    files: [],
    resources: {},
    capAdd: [],
    capDrop: [],
    privileged: false,
    noNewPrivileges: true,
    seccomp: 'default',
    sysctls: {},
    extraHosts: [],
    dns: [],
    dnsSearch: [],
    dnsOptions: [],
    network: { mode: 'none' },
    logDriver: { type: 'json-file', config: {} },
    restart: { name: 'no', maximumRetryCount: 0 },
    autoRemove: false,
    ...overrides,
  };
}

const never = new AbortController().signal;

/** Starts a container that sleeps, unless it is told otherwise. @returns its id */
export async function startOne(engine: Engine, overrides: Partial<ContainerConfig> = {}): Promise<string> {
  const { id } = await engine.containers.create(config({ cmd: ['sleep', '1000'], ...overrides }));
  await engine.containers.start(id);
  return id;
}

/** Creates, starts, and waits for the end; gives exit code and log. */
export async function runToEnd(
  engine: Engine,
  command: readonly string[],
  overrides: Partial<ContainerConfig> = {},
): Promise<{ id: string; exitCode: number; out: string; err: string }> {
  const { id } = await engine.containers.create(config({ cmd: command, ...overrides }));
  await engine.containers.start(id);
  const { exitCode } = await engine.containers.wait(id, 'not-running', never);
  return { id, exitCode, ...(await logText(engine, id)) };
}

export async function logText(engine: Engine, id: string): Promise<{ out: string; err: string }> {
  const lines: LogLine[] = [];
  for await (const line of engine.containers.logs(id, { stdout: true, stderr: true, follow: false }, never)) {
    lines.push(line);
  }
  const text = (stream: string): string =>
    Buffer.concat(lines.filter((line) => line.stream === stream).map((line) => line.data)).toString('utf8');
  return { out: text('stdout'), err: text('stderr') };
}

/** Waits until `probe` holds, at most 20 s. */
export async function until(probe: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (let i = 0; i < 2000; i++) {
    if (await probe()) return;
    await systemClock.sleep(10);
  }
  throw new Error(`never happened: ${what}`);
}
