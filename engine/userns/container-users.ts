import type { Container, ContainerConfig, IdMapping } from '../types.ts';
import { pathOfDescriptor, type NewNamespaces, type UserNamespaces } from './namespaces.ts';
import { sharedUserNamespace } from './rules.ts';

/** Paths of namespaces that a container with ids of its own starts in. */
export interface StartNamespaces {
  user?: string;
  /** For one with a sandbox: it must belong to the user namespace, or the container could not even see it in /sys. */
  network?: string;
}

/** The user namespaces of containers from the preparation of a start until the runtime has entered them. */
export class ContainerUsers {
  readonly namespaces: UserNamespaces;
  /** Ids of containers that are made from now on; undefined: the host's. */
  readonly remap: IdMapping | undefined;
  readonly #held = new Map<string, NewNamespaces>();

  constructor(namespaces: UserNamespaces, remap: IdMapping | undefined) {
    this.namespaces = namespaces;
    this.remap = remap;
  }

  /** Makes what a start needs; nothing for a container with the host's ids. @throws ShoalError */
  async begin(
    id: string,
    config: ContainerConfig,
    find: (reference: string) => Container | undefined,
  ): Promise<StartNamespaces> {
    const { idMapping, network } = config;
    if (idMapping === undefined) return {};
    this.end(id);
    const owner = sharedUserNamespace(config, find);
    const theirs = owner === undefined ? undefined : `/proc/${owner.pid}/ns/user`;
    if (theirs !== undefined && network.mode !== 'sandbox') return { user: theirs };
    const made = await this.namespaces.make(idMapping, theirs);
    this.#held.set(id, made);
    return {
      user: pathOfDescriptor(made.user),
      ...(network.mode === 'sandbox' ? { network: pathOfDescriptor(made.network) } : {}),
    };
  }

  /** The container has entered them, or will not. Idempotent. */
  end(id: string): void {
    const made = this.#held.get(id);
    if (made === undefined) return;
    this.#held.delete(id);
    this.namespaces.close(made.user);
    this.namespaces.close(made.network);
  }

  /** The daemon goes. */
  close(): void {
    this.#held.clear();
    this.namespaces.closeAll();
  }
}
