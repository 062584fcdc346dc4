import { Client } from '@grpc/grpc-js';
import { channelOptions, type TlsIdentity } from '../../identity/index.ts';

/** Channels to other managers kept open. */
const CLIENTS_MAX = 16;

/** Channels to managers by address, with mutual TLS; each is made at its first use. */
export class ManagerClients {
  readonly #tls: TlsIdentity;
  readonly #clients = new Map<string, Client>();

  constructor(tls: TlsIdentity) {
    this.#tls = tls;
  }

  /** A channel to the manager at `host:port`. It stays owned here: do not close it. */
  to(addr: string): Client {
    let client = this.#clients.get(addr);
    if (client !== undefined) return client;
    const [oldest] = this.#clients.keys();
    if (this.#clients.size >= CLIENTS_MAX && oldest !== undefined) this.drop(oldest);
    client = new Client(addr, this.#tls.channelCredentials(), channelOptions());
    this.#clients.set(addr, client);
    return client;
  }

  /** Closes the channel to an address (the manager left, or its connection must be made anew). */
  drop(addr: string): void {
    this.#clients.get(addr)?.close();
    this.#clients.delete(addr);
  }

  close(): void {
    for (const client of this.#clients.values()) client.close();
    this.#clients.clear();
  }
}
