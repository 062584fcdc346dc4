import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { readFileIfExists, ShoalError, writeFileDurably } from '../base/index.ts';

/** How this node joined its swarm; kept in `swarm/docker-state.json`. */
export interface SwarmSettings {
  listenAddr: string;
  /** `host:port`; the host is also the tunnel end point unless `dataPathAddr` says otherwise. */
  advertiseAddr: string;
  dataPathAddr: string;
  dataPathPort: number;
}

export interface KnownManager {
  nodeId: string;
  addr: string;
}

/** The files of a node's membership below `<data root>/swarm`. */
export class SwarmFiles {
  readonly dir: string;

  constructor(dataRoot: string) {
    this.dir = join(dataRoot, 'swarm');
  }

  get workerDir(): string {
    return join(this.dir, 'worker');
  }

  #read<T>(name: string): T | undefined {
    const path = join(this.dir, name);
    const text = readFileIfExists(path);
    if (text === undefined) return undefined;
    try {
      return JSON.parse(text) as T;
    } catch (error) {
      throw new ShoalError('DataLoss', `${path} cannot be read; leave the swarm by force and join again`, {
        cause: error,
      });
    }
  }

  settings(): SwarmSettings | undefined {
    return this.#read<SwarmSettings>('docker-state.json');
  }

  saveSettings(settings: SwarmSettings): void {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    writeFileDurably(join(this.dir, 'docker-state.json'), JSON.stringify(settings));
  }

  /** Managers known when the node last heard of them. */
  managers(): KnownManager[] {
    return this.#read<KnownManager[]>('state.json') ?? [];
  }

  saveManagers(managers: readonly KnownManager[]): void {
    mkdirSync(this.dir, { recursive: true, mode: 0o700 });
    writeFileDurably(join(this.dir, 'state.json'), JSON.stringify(managers));
  }

  /** Forgets the swarm: certificates, log, tasks. */
  remove(): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}
