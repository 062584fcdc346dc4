import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { conflict, invalidArgument, mount, MS } from '../../base/index.ts';
import { sharedContainer, type JoinedNamespaces } from '../runtime/namespaces.ts';
import { SHM_BYTES } from '../runtime/mounts.ts';
import { mountPoints, unmountEvery } from '../storage/index.ts';
import type { Container, ContainerConfig } from '../types.ts';
import { hostRoot } from '../userns/ids.ts';
import type { Parts } from './parts.ts';

/** Containers that join each other's memory in a row. */
const JOINS_MAX = 16;

/** Where memory stands that a container shares with others, on the host. */
function shmDirectory(parts: Parts, id: string): string {
  return join(parts.runtime.bundle(id), 'shm');
}

function runningOwner(parts: Parts, reference: string, kind: string): Container {
  const owner = parts.find(reference);
  const wrong = (why: string): Error => conflict(`failed to join ${kind} namespace: ${why}`);
  if (owner === undefined) throw wrong(`No such container: ${reference}`);
  if (owner.state === 'restarting') {
    throw wrong(`Container ${owner.id} is restarting, wait until the container is running`);
  }
  if (owner.pid === 0) throw wrong(`cannot join ${kind} namespace of a non running container: ${owner.id}`);
  return owner;
}

/**
 * The namespaces of other containers that one wants to share, and the memory that goes with one for IPC.
 * @throws ShoalError Conflict when the other does not run; InvalidArgument when it shares nothing.
 */
export function joinNamespaces(
  parts: Parts,
  config: Pick<ContainerConfig, 'pidMode' | 'ipcMode'>,
): Pick<JoinedNamespaces, 'pid' | 'ipc'> & { shm: string | undefined } {
  const pidOf = sharedContainer(config.pidMode);
  const pid = pidOf === undefined ? undefined : `/proc/${runningOwner(parts, pidOf, 'PID').pid}/ns/pid`;
  if (config.ipcMode === 'host') return { pid, shm: '/dev/shm' };
  let owner = sharedContainer(config.ipcMode);
  if (owner === undefined) return { pid, shm: undefined };
  let container = runningOwner(parts, owner, 'IPC');
  const ipc = `/proc/${container.pid}/ns/ipc`;
  for (let joins = 0; joins < JOINS_MAX; joins++) {
    const mode = container.config.ipcMode;
    if (mode === 'host') return { pid, ipc, shm: '/dev/shm' };
    if (mode === 'shareable') return { pid, ipc, shm: shmDirectory(parts, container.id) };
    owner = sharedContainer(mode);
    if (owner === undefined) break;
    container = runningOwner(parts, owner, 'IPC');
  }
  throw invalidArgument(
    `failed to join IPC namespace: container ${container.id} has non-shareable IPC ` +
      '(hint: use IpcMode:shareable for the donor container)',
  );
}

/** Mounts the memory of a container that shares it; undefined for one that does not. Its bundle stands. Idempotent. */
export function makeShm(parts: Parts, id: string, config: ContainerConfig): string | undefined {
  if (config.ipcMode !== 'shareable') return undefined;
  const directory = shmDirectory(parts, id);
  mkdirSync(directory, { recursive: true });
  if (!mountPoints().includes(directory)) {
    const flags = MS.NOSUID | MS.NODEV | MS.NOEXEC;
    const { uid, gid } = hostRoot(config.idMapping);
    mount('shm', directory, 'tmpfs', flags, `mode=1777,size=${config.shmBytes ?? SHM_BYTES},uid=${uid},gid=${gid}`);
  }
  return directory;
}

/** Takes off what `makeShm` mounted; those who joined keep theirs. Idempotent. */
export function releaseShm(parts: Parts, id: string, config: ContainerConfig): void {
  if (config.ipcMode === 'shareable') unmountEvery(shmDirectory(parts, id));
}
