import {
  appendFileSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { setImmediate as yieldLoop } from 'node:timers/promises';
import { join } from 'node:path';
import { readFileIfExists, writeFileDurably, type Logger } from '../base/index.ts';
import { applyTableDelta, NetworkTable } from '../proto/index.ts';
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

/** Endpoints encoded before other work gets a turn (about 1 ms). */
const ENDPOINTS_PER_TURN = 500;
/** Ending of the file of a table's deltas, each with its length before it. */
const DELTAS = '.deltas';
/** Deltas of a table may take this much, or as much as the table itself. */
const DELTAS_MIN_BYTES = 64 * 1024;

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
  /** Of tables that are saved: the whole file, and the deltas after it. */
  readonly #sizes = new Map<string, { bytes: number; deltas: number }>();

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
    return this.#loadAll(this.#tables, (bytes, name) => {
      const length = bytes.readUInt32LE(0);
      const vxlan = bytes.toString('utf8', 4, 4 + length);
      const table = NetworkTable.decode(bytes.subarray(4 + length));
      return { vxlan, table: this.#withDeltas(name, table, bytes.length) };
    });
  }

  /** Writes a table whole, piece by piece: a large one does not hold the loop. Its deltas so far go. */
  async saveTable({ table, vxlan }: StoredTable): Promise<void> {
    const path = join(this.#tables, table.network_id);
    const { endpoints, ...rest } = table;
    const tunnel = Buffer.from(vxlan);
    const length = Buffer.alloc(4);
    length.writeUInt32LE(tunnel.length);
    writeFileSync(`${path}.new`, Buffer.concat([length, tunnel, NetworkTable.encode(rest)]), { mode: 0o600 });
    for (let at = 0; at < endpoints.length; at += ENDPOINTS_PER_TURN) {
      if (at > 0) await yieldLoop();
      // Messages one behind the other are one message, with the lists of all of them.
      appendFileSync(`${path}.new`, NetworkTable.encode({ endpoints: endpoints.slice(at, at + ENDPOINTS_PER_TURN) }));
    }
    rmSync(`${path}${DELTAS}`, { force: true });
    renameSync(`${path}.new`, path);
    this.#sizes.set(table.network_id, { bytes: statSync(path).size, deltas: 0 });
  }

  /** Writes what is new in a table that was saved; false when it must be saved whole, as its deltas are many. */
  saveTableDelta(delta: NetworkTable): boolean {
    const size = this.#sizes.get(delta.network_id);
    if (size === undefined) return false;
    const bytes = NetworkTable.encode(delta);
    if (size.deltas + bytes.length > Math.max(DELTAS_MIN_BYTES, size.bytes)) return false;
    const length = Buffer.alloc(4);
    length.writeUInt32LE(bytes.length);
    const path = join(this.#tables, `${delta.network_id}${DELTAS}`);
    appendFileSync(path, Buffer.concat([length, bytes]), { mode: 0o600 });
    size.deltas += length.length + bytes.length;
    return true;
  }

  /** A table with the deltas that were written after it. One that was cut off, or does not fit, ends them. */
  #withDeltas(networkId: string, table: NetworkTable, bytes: number): NetworkTable {
    const path = join(this.#tables, `${networkId}${DELTAS}`);
    let deltas = Buffer.alloc(0);
    try {
      deltas = readFileSync(path);
    } catch {
      // None was written.
    }
    let at = 0;
    for (let current = table; ;) {
      const end = at + 4 <= deltas.length ? at + 4 + deltas.readUInt32LE(at) : Infinity;
      const next =
        end <= deltas.length ? applyTableDelta(current, NetworkTable.decode(deltas.subarray(at + 4, end))) : undefined;
      if (next === undefined) {
        // What comes next must not stand behind something that cannot be read.
        if (at === deltas.length) this.#sizes.set(networkId, { bytes, deltas: at });
        return current;
      }
      current = next;
      at = end;
    }
  }

  removeTable(networkId: string): void {
    this.#sizes.delete(networkId);
    for (const name of [networkId, `${networkId}${DELTAS}`]) rmSync(join(this.#tables, name), { force: true });
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

  #loadAll<T>(directory: string, parse: (bytes: Buffer, name: string) => T): T[] {
    const found: T[] = [];
    for (const name of readdirSync(directory)) {
      if (name.endsWith('.new') || name.endsWith(DELTAS)) continue;
      const path = join(directory, name);
      try {
        found.push(parse(readFileSync(path), name));
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
