import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readFileIfExists, writeFileDurably, type Logger } from '../base/index.ts';
import { NetworkTable } from '../proto/index.ts';
import type { Op } from './kernel/ops.ts';
import type { Underlay } from './plan.ts';
import type { LocalNetwork, SandboxResult, SandboxSpec } from './types.ts';

/** One interface as it was made. */
export interface Leg {
  networkId: string;
  kind: 'local' | 'overlay' | 'ingress' | 'gateway';
  /** Without mask. */
  address: string;
  /** IPv6, without mask; absent when the leg has none. */
  address6?: string;
  mac: string;
  /** The end in the bridge; empty for a macvlan, which has one end only. */
  hostLink: string;
  /** Its name in the container. */
  interfaceName?: string;
  /** Next hops when this leg may carry the default route; empty or left out: it may not. */
  gateway?: string;
  gateway6?: string;
  /** How it was made, so that it can be compared with the kernel and made again; absent in records of older versions. */
  made?: LegOps;
}

/** The ops that make one leg, in order: those where the bridge is, then those in the sandbox. */
export interface LegOps {
  /** Namespace of the bridge; null is the host's. */
  bridgeNamespace: string | null;
  outer: Op[];
  inner: Op[];
}

/** All that must be known of a sandbox to take it over after a restart. */
export interface SandboxRecord {
  spec: SandboxSpec;
  result: SandboxResult;
  legs: Leg[];
  /** Address of the leg that carries the default route; empty when there is none. */
  defaultAddress: string;
  /** The same for IPv6; left out when there is none. */
  defaultAddress6?: string;
  /** The sandbox's own ops beside those of its legs, to be run after them (default routes). */
  routes?: Op[];
  drained: boolean;
  /** Port of the sandbox's resolver; absent until it was opened. */
  resolverPort?: number;
}

/** A table as it was last given, with the tunnel device that was made for it. */
export interface StoredTable {
  table: NetworkTable;
  vxlan: string;
}

/**
 * Files under the daemon's run directory. They describe kernel state, which a host's restart takes away too, so they
 * are replaced whole but not synced; local networks outlive the kernel and are durable.
 */
export class NetworkStore {
  readonly namespaces: string;
  readonly #sandboxes: string;
  readonly #tables: string;
  readonly #root: string;
  readonly #networks: string;
  readonly #log: Logger;

  constructor(execRoot: string, stateDir: string, log: Logger) {
    this.#root = execRoot;
    this.namespaces = join(execRoot, 'netns');
    this.#sandboxes = join(execRoot, 'sandboxes');
    this.#tables = join(execRoot, 'tables');
    this.#networks = join(stateDir, 'networks.json');
    this.#log = log;
    for (const path of [this.namespaces, this.#sandboxes, this.#tables, stateDir]) mkdirSync(path, { recursive: true });
  }

  namespaceNames(): string[] {
    return readdirSync(this.namespaces);
  }

  loadSandboxes(): SandboxRecord[] {
    return this.#loadAll(this.#sandboxes, (bytes) => JSON.parse(bytes.toString('utf8')) as SandboxRecord);
  }

  saveSandbox(record: SandboxRecord): void {
    replace(join(this.#sandboxes, `${record.spec.id}.json`), JSON.stringify(record));
  }

  removeSandbox(id: string): void {
    rmSync(join(this.#sandboxes, `${id}.json`), { force: true });
  }

  loadTables(): StoredTable[] {
    return this.#loadAll(this.#tables, (bytes) => {
      const length = bytes.readUInt32LE(0);
      return { vxlan: bytes.toString('utf8', 4, 4 + length), table: NetworkTable.decode(bytes.subarray(4 + length)) };
    });
  }

  saveTable(stored: StoredTable): void {
    const vxlan = Buffer.from(stored.vxlan);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(vxlan.length);
    const bytes = Buffer.concat([length, vxlan, NetworkTable.encode(stored.table)]);
    replace(join(this.#tables, stored.table.network_id), bytes);
  }

  removeTable(networkId: string): void {
    rmSync(join(this.#tables, networkId), { force: true });
  }

  loadUnderlay(): Underlay | undefined {
    const text = readFileIfExists(join(this.#root, 'underlay.json'));
    return text === undefined ? undefined : (JSON.parse(text) as Underlay);
  }

  saveUnderlay(underlay: Underlay): void {
    replace(join(this.#root, 'underlay.json'), JSON.stringify(underlay));
  }

  removeUnderlay(): void {
    rmSync(join(this.#root, 'underlay.json'), { force: true });
  }

  loadNetworks(): LocalNetwork[] {
    const text = readFileIfExists(this.#networks);
    if (text === undefined) return [];
    // Files of earlier versions lack what came later.
    const addresses = { subnet6: '', gateway6: '', ipRange: '', ipRange6: '', auxAddresses: {} };
    const later = { ...addresses, userSubnet: false, attachable: false };
    return (JSON.parse(text) as (LocalNetwork & Partial<typeof later>)[]).map((network) => ({ ...later, ...network }));
  }

  saveNetworks(networks: readonly LocalNetwork[]): void {
    writeFileDurably(this.#networks, JSON.stringify(networks));
  }

  /** Removes every file of the kernel's state. */
  clear(): void {
    for (const path of [this.namespaces, this.#sandboxes, this.#tables]) rmSync(path, { recursive: true, force: true });
    rmSync(join(this.#root, 'underlay.json'), { force: true });
    rmSync(this.#networks, { force: true });
  }

  #loadAll<T>(directory: string, parse: (bytes: Buffer) => T): T[] {
    const found: T[] = [];
    for (const name of readdirSync(directory)) {
      if (name.endsWith('.new')) continue;
      const path = join(directory, name);
      try {
        found.push(parse(readFileSync(path)));
      } catch (error) {
        this.#log.warn('a record of the network state cannot be read and is dropped', { path, error });
        rmSync(path, { force: true });
      }
    }
    return found;
  }
}

function replace(path: string, content: string | Uint8Array): void {
  writeFileSync(`${path}.new`, content, { mode: 0o600 });
  renameSync(`${path}.new`, path);
}
