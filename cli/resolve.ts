import { isNotFound, segment, type Client } from './client.ts';
import type { Node, Service } from './objects.ts';

/** Names of nodes and services by id, each asked for once. */
export class NameResolver {
  readonly #client: Client;
  readonly #off: boolean;
  readonly #names = new Map<string, string>();

  constructor(client: Client, off: boolean) {
    this.#client = client;
    this.#off = off;
  }

  node(id: string): Promise<string> {
    return this.#resolve(id, async () => {
      const node = await this.#client.get<Node>(`/nodes/${segment(id)}`);
      return node.Spec.Name || node.Description.Hostname || id;
    });
  }

  service(id: string): Promise<string> {
    return this.#resolve(id, async () => {
      const service = await this.#client.get<Service>(`/services/${segment(id)}`, { insertDefaults: 'false' });
      return service.Spec.Name;
    });
  }

  async #resolve(id: string, ask: () => Promise<string>): Promise<string> {
    if (this.#off || id === '') return id;
    const known = this.#names.get(id);
    if (known !== undefined) return known;
    let name = id;
    try {
      name = await ask();
    } catch (error) {
      // A service or node that is gone is shown by its id.
      if (!isNotFound(error)) throw error;
    }
    this.#names.set(id, name);
    return name;
  }
}
