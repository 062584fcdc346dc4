import { mkdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage, failedPrecondition } from '../../base/index.ts';
import type { SandboxResult } from '../../overlay-net/index.ts';
import { conmonSizeLimit } from '../logs/keeper.ts';
import { logPolicy } from '../logs/policy.ts';
import { groupFor, isScope, recordedGroup } from '../runtime/cgroup-driver.ts';
import type { MonitorRequest } from '../runtime/conmon.ts';
import { writeEtcFiles, type EtcFiles } from '../runtime/etc-files.ts';
import { resolveInRoot } from '../runtime/in-root.ts';
import { prepareBindSource, userMount } from '../runtime/mounts.ts';
import type { OciMount } from '../runtime/oci.ts';
import { findProgram } from '../runtime/probe.ts';
import { containerSpec } from '../runtime/spec.ts';
import type { Container, ContainerConfig, ContainerMount, Image, MountRequest } from '../types.ts';
import { hostProcessUser, hostRoot } from '../userns/ids.ts';
import { bindSubpath, releaseSubpaths } from '../volumes/index.ts';
import { placeFirstFiles } from './first-files.ts';
import { imageSource, releaseImages, subpathPlace } from './image-mounts.ts';
import { placeFiles, requireFiles } from './injected-files.ts';
import { linkFacts } from './links.ts';
import { beginLog, endLog } from './logging.ts';
import { etcRequest, joinContainer, makeSandbox } from './networking.ts';
import type { Parts } from './parts.ts';
import { joinNamespaces, makeShm, releaseShm } from './shared-namespaces.ts';
import { shownMount } from './shown-mounts.ts';
import type { StoredContainer } from './store.ts';

/** Everything of a container that stands on the host and is taken down when it has ended. */
export interface Prepared {
  sandbox: SandboxResult | undefined;
  mounts: ContainerMount[];
  monitor: MonitorRequest;
  etc: EtcFiles;
}

/** Control group of a container in every tree. */
export function cgroupPathOf(parts: Parts, id: string): string {
  const container = parts.find(id);
  return container === undefined ? groupFor(parts.groups, undefined, id).path : groupOf(parts, container);
}

function groupOf(parts: Parts, { id, cgroupPath, config }: Container): string {
  return recordedGroup(parts.groups, { id, cgroupPath, cgroupParent: config.cgroupParent });
}

/**
 * Makes all that a start needs: root file system, network, volumes, files, and the bundle for the runtime. Idempotent;
 * when it throws, `release` takes down what was made.
 * @param filesLost the injected files' bytes are not in memory (the daemon was started anew).
 */
export async function prepareBundle(
  parts: Parts,
  stored: StoredContainer,
  image: Image,
  filesLost: boolean,
): Promise<Prepared> {
  const { container } = stored;
  const { id } = container;
  const shared =
    container.config.network.mode === 'container'
      ? joinContainer(parts, container.config.network.container)
      : undefined;
  const joined = joinNamespaces(parts, container.config);
  const runtime = await parts.runtimes.get(container.config.runtime);
  const group = groupFor(parts.groups, container.config.cgroupParent, id);
  container.cgroupPath = group.path;
  const links = linkFacts(parts, container.config);
  const config = {
    ...container.config,
    env: [...links.env, ...container.config.env],
    ...(shared === undefined ? {} : { hostname: shared.hostname }),
  };
  const { idMapping } = config;
  const users = await parts.users.begin(id, config, parts.find);
  const [rootPath, sandbox, initPath] = await Promise.all([
    parts.roots.mount(id, container.imageId, idMapping),
    makeSandbox(parts, id, config, [], users.network),
    config.init ? findInit(parts.defaults.initPath) : undefined,
  ]);
  if (container.startedMs === 0) placeFirstFiles(rootPath, hostRoot(idMapping));
  if (filesLost) await requireFiles(parts.filesRoot, id, config.files);
  const [user, files, etc] = await Promise.all([
    prepareMounts(parts, stored, rootPath, runtime.recursiveReadOnly),
    placeFiles(parts.filesRoot, id, config.files, idMapping),
    shared?.etc ??
      writeEtcFiles(parts.store.directory(id), etcRequest(parts, container, sandbox?.endpoints ?? [], links.lines)),
  ]);
  const bundle = parts.runtime.bundle(id);
  await mkdir(bundle, { recursive: true, mode: 0o700 });
  const shm = makeShm(parts, id, config) ?? joined.shm;
  const spec = containerSpec({
    id,
    config,
    image: image.config,
    args: [container.path, ...container.args],
    rootPath,
    cgroupPath: group.runtimePath,
    joined: { ...joined, user: users.user, network: sandbox?.namespacePath ?? shared?.namespacePath },
    shm,
    etc,
    mounts: [...user.oci, ...files],
    initPath,
    defaultUlimits: parts.defaultUlimits,
    swapAccounting: parts.swapAccounting,
    appArmor: parts.sysInfo.appArmor,
    cdi: (config.deviceRequests ?? []).length === 0 ? undefined : await parts.cdi.read(),
    defaultSeccomp: parts.defaults.seccomp ?? 'default',
    x32: parts.x32,
  });
  await writeFile(join(bundle, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
  await beginLog(parts, container, true);
  const made = {
    runtime: runtime.path,
    systemdGroup: isScope(group.path),
    ...hostProcessUser(idMapping, spec.process.user),
  };
  const monitor = { ...monitorRequest(container.logPath, id, config), ...made };
  return { sandbox, mounts: user.shown, monitor, etc };
}

function monitorRequest(logPath: string, id: string, config: ContainerConfig): Omit<MonitorRequest, 'systemdGroup'> {
  const policy = logPolicy(config.logDriver);
  return {
    id,
    log: policy.driver === 'none' ? 'null' : `k8s-file:${logPath}`,
    logSizeMax: conmonSizeLimit(policy),
    tty: config.tty,
    openStdin: config.openStdin,
    stdinOnce: config.stdinOnce === true && !config.tty,
  };
}

async function findInit(named: string | undefined): Promise<string> {
  if (named !== undefined) return named;
  const path = (await findProgram('docker-init')) ?? (await findProgram('tini'));
  if (path === undefined) {
    throw failedPrecondition(
      'an init process was asked for, but neither docker-init nor tini is installed; install tini',
    );
  }
  return path;
}

async function prepareMounts(
  parts: Parts,
  stored: StoredContainer,
  rootPath: string,
  recursive: boolean,
): Promise<{ oci: OciMount[]; shown: ContainerMount[] }> {
  const oci: OciMount[] = [];
  const shown: ContainerMount[] = [];
  for (const mount of stored.mounts) {
    let source = mount.source;
    switch (mount.type) {
      case 'tmpfs':
        source = '';
        break;
      case 'bind':
        await prepareBindSource(mount, hostRoot(stored.container.config.idMapping));
        break;
      case 'volume':
        source = await volumeSource(parts, stored.container.id, mount, rootPath, oci.length);
        break;
      case 'image':
        source = await imageSource(parts, stored.container.id, mount, oci.length);
        break;
    }
    oci.push(userMount(mount, source, recursive));
    shown.push(...shownMount(mount, source));
  }
  return { oci, shown };
}

/** Mounts a volume; an empty one is filled with what the image has at its place, a part of one is bound alone. */
async function volumeSource(
  parts: Parts,
  id: string,
  mount: MountRequest,
  rootPath: string,
  number: number,
): Promise<string> {
  const path = await parts.volumes.acquire(mount.source, id);
  if (mount.volumeSubpath) return bindSubpath(path, mount.volumeSubpath, subpathPlace(parts, id), number);
  if (mount.noCopy === true) return path;
  const from = resolveInRoot(rootPath, mount.target);
  const info = await stat(from).catch(() => undefined);
  if (info?.isDirectory() === true) await parts.volumes.fill(mount.source, from);
  return path;
}

/**
 * Takes down what `prepareBundle` made and what the runtime left: processes, cgroups, state, network, mounts. Goes
 * through every step whatever fails, and is repeated when the container is removed. Idempotent.
 */
export async function releaseBundle(parts: Parts, stored: StoredContainer): Promise<void> {
  const { id, config } = stored.container;
  const quietly = async (what: string, work: Promise<void>): Promise<void> => {
    await work.catch((error: unknown) => {
      parts.log.warn('a part of an ended container could not be taken down', {
        id,
        what,
        error: errorMessage(error),
      });
    });
  };
  parts.users.end(id);
  // Processes first: what they hold open cannot be unmounted.
  await quietly('cgroups', parts.cgroups.destroy(groupOf(parts, stored.container)));
  await Promise.all([
    config.network.mode === 'sandbox' ? quietly('network', parts.networks.removeSandbox(id)) : undefined,
    quietly('root file system', parts.roots.unmount(id)),
    releaseVolumes(parts, stored, quietly),
  ]);
  if (config.network.mode === 'sandbox') parts.swarm?.detach(id);
  await quietly('log', endLog(parts, stored.container));
  await quietly('shared memory', (async () => releaseShm(parts, id, config))());
  await quietly('runtime state', parts.runtime.forget(id));
}

async function releaseVolumes(
  parts: Parts,
  stored: StoredContainer,
  quietly: (what: string, work: Promise<void>) => Promise<void>,
): Promise<void> {
  const { container, mounts } = stored;
  const { id } = container;
  // A binding of a part keeps its volume from being unmounted.
  await quietly('parts of volumes', (async () => releaseSubpaths(subpathPlace(parts, id)))());
  await quietly('mounts of images', releaseImages(parts, stored));
  const volumes = mounts.filter((mount) => mount.type === 'volume');
  await Promise.all(volumes.map((mount) => quietly('volume', parts.volumes.release(mount.source, id))));
}

/** A container that runs since before the daemon was started has its volumes still. */
export function retainVolumes(parts: Parts, { container, mounts }: StoredContainer): void {
  for (const mount of mounts) if (mount.type === 'volume') parts.volumes.retain(mount.source, container.id);
}
