import { invalidArgument } from '../../base/index.ts';
import type { ContainerConfig } from '../types.ts';
import type { OciSpec } from './oci.ts';

const SHARED = 'container:';

/** The container that a mode names, as `container:<name|id>`; undefined for another mode. */
export function sharedContainer(mode: string | undefined): string | undefined {
  return mode?.startsWith(SHARED) === true ? mode.slice(SHARED.length) : undefined;
}

/** Namespaces of other containers that this one joins, as paths below /proc. */
export interface JoinedNamespaces {
  network?: string | undefined;
  pid?: string | undefined;
  ipc?: string | undefined;
  /** Of a container with ids of its own; left out: the host's. */
  user?: string | undefined;
}

type Modes = Pick<ContainerConfig, 'pidMode' | 'ipcMode' | 'utsMode' | 'cgroupnsMode' | 'usernsMode'>;

/** Checks the modes of namespaces. @throws ShoalError InvalidArgument in Docker's words */
export function checkNamespaces(config: Modes): void {
  const { pidMode = '', ipcMode = '', utsMode = '', cgroupnsMode = '', usernsMode = '' } = config;
  const named = (mode: string): boolean => (sharedContainer(mode) ?? '') !== '';
  if (!['', 'host'].includes(pidMode) && !named(pidMode)) throw invalidArgument(`invalid PID mode: ${pidMode}`);
  if (!['', 'none', 'private', 'shareable', 'host'].includes(ipcMode) && !named(ipcMode)) {
    throw invalidArgument(`invalid IPC mode: ${ipcMode}`);
  }
  if (!['', 'host'].includes(utsMode)) throw invalidArgument(`invalid UTS mode: ${utsMode}`);
  if (!['', 'host', 'private'].includes(cgroupnsMode)) {
    throw invalidArgument(`invalid cgroup namespace mode: ${cgroupnsMode}`);
  }
  if (!['', 'host'].includes(usernsMode)) {
    throw invalidArgument(`invalid USER mode: ${usernsMode}: leave it out, or say host`);
  }
}

/** The namespaces that a container gets, joins, or (left out) shares with the host. */
export function ociNamespaces(config: ContainerConfig, joined: JoinedNamespaces): OciSpec['linux']['namespaces'] {
  const own = (type: string, path: string | undefined): { type: string; path?: string } =>
    path === undefined ? { type } : { type, path };
  return [
    // The first to be joined or made: the others belong to it.
    ...(joined.user === undefined ? [] : [own('user', joined.user)]),
    { type: 'mount' },
    ...(config.utsMode === 'host' ? [] : [own('uts', undefined)]),
    ...(config.pidMode === 'host' ? [] : [own('pid', joined.pid)]),
    ...(config.ipcMode === 'host' ? [] : [own('ipc', joined.ipc)]),
    ...(config.cgroupnsMode === 'host' ? [] : [own('cgroup', undefined)]),
    ...(config.network.mode === 'host' ? [] : [own('network', joined.network)]),
  ];
}
