import { invalidArgument, ShoalError } from '../../base/index.ts';
import { sharedContainer } from '../runtime/namespaces.ts';
import type { Container, ContainerConfig, IdMapping } from '../types.ts';
import { sameMapping } from './ids.ts';
import { sameUserNamespace } from './namespaces.ts';

/**
 * The ids that a container gets which is made by a daemon with this mapping; undefined for the host's own.
 * @throws ShoalError InvalidArgument in Docker's words for what such a container cannot have
 */
export function mappingFor(config: ContainerConfig, remap: IdMapping | undefined): IdMapping | undefined {
  if (remap === undefined || config.usernsMode === 'host') return undefined;
  const refuse = (words: string): never => {
    throw invalidArgument(words);
  };
  if (config.privileged) {
    refuse(
      'privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when ' +
        'running privileged mode',
    );
  }
  if (config.network.mode === 'host') {
    refuse("cannot share the host's network namespace when user namespaces are enabled");
  }
  if (config.pidMode === 'host') refuse('cannot share the host PID namespace when user namespaces are enabled');
  return remap;
}

/** Containers whose namespaces one joins, by what they are joined for. */
function joinedContainers(config: ContainerConfig): { kind: string; reference: string }[] {
  const { network } = config;
  const found: { kind: string; reference: string | undefined }[] = [
    { kind: 'network', reference: network.mode === 'container' ? network.container : undefined },
    { kind: 'PID', reference: sharedContainer(config.pidMode) },
    { kind: 'IPC', reference: sharedContainer(config.ipcMode) },
  ];
  return found.flatMap(({ kind, reference }) => (reference === undefined ? [] : [{ kind, reference }]));
}

/**
 * The running container whose user namespace another one must share, because it shares a namespace that belongs to it;
 * undefined when it shares none.
 * @throws ShoalError Conflict when their ids differ, or two of them have different ones
 */
export function sharedUserNamespace(
  config: ContainerConfig,
  find: (reference: string) => Container | undefined,
): Container | undefined {
  if (config.idMapping === undefined) return undefined;
  let owner: Container | undefined;
  for (const { kind, reference } of joinedContainers(config)) {
    const other = find(reference);
    // Others say that it does not exist, or does not run.
    if (other === undefined || other.pid === 0) continue;
    const wrong = (why: string): Error => new ShoalError('Conflict', `failed to join ${kind} namespace: ${why}`);
    if (!sameMapping(config.idMapping, other.config.idMapping)) {
      const hint = 'start both with --userns=host, or both without it';
      throw wrong(`container ${other.id} has other user ids on the host: ${hint}`);
    }
    if (owner !== undefined && !sameUserNamespace(owner.pid, other.pid)) {
      throw wrong(`container ${other.id} and container ${owner.id} do not share a user namespace: join one of them`);
    }
    owner ??= other;
  }
  return owner;
}
