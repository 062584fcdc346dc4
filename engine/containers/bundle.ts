import { mkdir, readdir, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { errorMessage, failedPrecondition, runChecked } from '../../base/index.ts';
import type { SandboxResult } from '../../overlay-net/index.ts';
import { conmonSizeLimit, logPolicy } from '../logs/rotate.ts';
import type { MonitorRequest } from '../runtime/conmon.ts';
import { writeEtcFiles } from '../runtime/etc-files.ts';
import { resolveInRoot } from '../runtime/in-root.ts';
import { prepareBindSource, userMount } from '../runtime/mounts.ts';
import type { OciMount } from '../runtime/oci.ts';
import { findProgram } from '../runtime/probe.ts';
import { containerSpec } from '../runtime/spec.ts';
import type { ContainerConfig, ContainerMount, Image } from '../types.ts';
import { placeFiles, requireFiles } from './injected-files.ts';
import { linkFacts } from './links.ts';
import { etcRequest, joinContainer, makeSandbox } from './networking.ts';
import type { Parts } from './parts.ts';
import type { StoredContainer } from './store.ts';

/** Everything of a container that stands on the host and is taken down when it has ended. */
export interface Prepared {
  sandbox: SandboxResult | undefined;
  mounts: ContainerMount[];
  monitor: MonitorRequest;
}

/** Cgroup of a container in every tree. */
export function cgroupPathOf(parts: Parts, id: string): string {
  return `${parts.cgroupParent}/${id}`;
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
  const links = linkFacts(parts, container.config);
  const config = {
    ...container.config,
    env: [...links.env, ...container.config.env],
    ...(shared === undefined ? {} : { hostname: shared.hostname }),
  };
  const [rootPath, sandbox, initPath] = await Promise.all([
    parts.roots.mount(id, container.imageId),
    makeSandbox(parts, id, config),
    config.init ? findInit() : undefined,
  ]);
  if (filesLost) await requireFiles(parts.filesRoot, id, config.files);
  const [user, files, etc] = await Promise.all([
    prepareMounts(parts, stored, rootPath),
    placeFiles(parts.filesRoot, id, config.files),
    shared?.etc ??
      writeEtcFiles(parts.store.directory(id), etcRequest(parts, container, sandbox?.endpoints ?? [], links.lines)),
  ]);
  const spec = containerSpec({
    id,
    config,
    image: image.config,
    args: [container.path, ...container.args],
    rootPath,
    cgroupPath: cgroupPathOf(parts, id),
    networkNamespace: sandbox?.namespacePath ?? shared?.namespacePath,
    etc,
    mounts: [...user.oci, ...files],
    initPath,
    defaultUlimits: parts.defaultUlimits,
    swapAccounting: parts.swapAccounting,
    x32: parts.x32,
  });
  const bundle = parts.runtime.bundle(id);
  await mkdir(bundle, { recursive: true, mode: 0o700 });
  await writeFile(join(bundle, 'config.json'), JSON.stringify(spec), { mode: 0o600 });
  return { sandbox, mounts: user.shown, monitor: monitorRequest(container.logPath, id, config) };
}

function monitorRequest(logPath: string, id: string, config: ContainerConfig): MonitorRequest {
  const policy = logPolicy(config.logDriver);
  return {
    id,
    log: policy.driver === 'none' ? 'null' : `k8s-file:${logPath}`,
    logSizeMax: conmonSizeLimit(policy),
    tty: config.tty,
    openStdin: config.openStdin,
  };
}

async function findInit(): Promise<string> {
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
): Promise<{ oci: OciMount[]; shown: ContainerMount[] }> {
  const oci: OciMount[] = [];
  const shown: ContainerMount[] = [];
  for (const mount of stored.mounts) {
    const common = { destination: mount.target, readOnly: mount.readOnly, propagation: '' };
    switch (mount.type) {
      case 'tmpfs':
        oci.push(userMount(mount, ''));
        shown.push({ type: 'tmpfs', source: '', ...common });
        break;
      case 'bind':
        await prepareBindSource(mount);
        oci.push(userMount(mount, mount.source));
        shown.push({ type: 'bind', source: mount.source, ...common, propagation: mount.propagation || 'rprivate' });
        break;
      case 'volume': {
        const source = await parts.volumes.acquire(mount.source, stored.container.id);
        if (mount.noCopy !== true) await copyUp(parts, resolveInRoot(rootPath, mount.target), source);
        oci.push(userMount(mount, source));
        const driver = mount.volumeDriver || 'local';
        shown.push({ type: 'volume', name: mount.source, source, driver, ...common });
        break;
      }
    }
  }
  return { oci, shown };
}

/** Fills an empty volume with what the image has at its place, owners and modes included. */
async function copyUp(parts: Parts, from: string, to: string): Promise<void> {
  const info = await stat(from).catch(() => undefined);
  if (info?.isDirectory() !== true) return;
  if ((await readdir(to)).length > 0) return;
  await runChecked(parts.spawner, { file: 'cp', args: ['-a', '--', `${from}/.`, to] });
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
  // Processes first: what they hold open cannot be unmounted.
  await quietly('cgroups', parts.cgroups.destroy(cgroupPathOf(parts, id)));
  await Promise.all([
    config.network.mode === 'sandbox' ? quietly('network', parts.networks.removeSandbox(id)) : undefined,
    quietly('root file system', parts.roots.unmount(id)),
    ...stored.mounts
      .filter((mount) => mount.type === 'volume')
      .map((mount) => quietly('volume', parts.volumes.release(mount.source, id))),
  ]);
  if (config.network.mode === 'sandbox') parts.swarm?.detach(id);
  await quietly('runtime state', parts.runtime.forget(id));
}
