import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLogger, systemClock, systemRandom, type Logger } from '../base/index.ts';
import { requestCertificate, saveIdentity, type NodeIdentity } from '../identity/index.ts';
import { createBootstrapIdentity, clusterOf, type ClusterInit } from './ca/index.ts';
import { Manager, type ManagerStart } from './manager.ts';

/** Time within which a condition of a test must come true, ms. */
const UNTIL_MS = 15_000;

/** Waits until `ready` holds. @throws Error that names `what`. */
export async function until(
  what: string,
  ready: () => boolean | Promise<boolean>,
  timeoutMs = UNTIL_MS,
): Promise<void> {
  const endMs = systemClock.monotonic() + timeoutMs;
  while (!(await ready())) {
    if (systemClock.monotonic() > endMs) throw new Error(`not in time: ${what}`);
    await systemClock.sleep(20);
  }
}

/** Managers of one cluster in this process, on loopback ports, with real certificates, logs and consensus. */
export class TestCluster {
  readonly managers: Manager[] = [];
  readonly removed: string[] = [];
  readonly fatal: unknown[] = [];
  readonly #dirs = new Map<string, string>();
  readonly #log: Logger;

  constructor(log: Logger = silentLogger) {
    this.#log = log;
  }

  /** Starts a manager with an identity, in its own directory. */
  async start(
    identity: NodeIdentity,
    how: ManagerStart,
    init?: ClusterInit,
    listenAddr = '127.0.0.1:0',
  ): Promise<Manager> {
    const stateDir = this.dirOf(identity.nodeId);
    saveIdentity(stateDir, identity);
    const manager = await Manager.start(
      {
        identity,
        stateDir,
        listenAddr,
        advertiseAddr: '127.0.0.1',
        clock: systemClock,
        random: systemRandom,
        log: this.#log.with({ node: identity.nodeId.slice(0, 4) }),
        clusterInit: init,
        onRemoved: () => this.removed.push(identity.nodeId),
        onFatal: (error) => this.fatal.push(error),
      },
      how,
    );
    this.managers.push(manager);
    return manager;
  }

  dirOf(nodeId: string): string {
    let dir = this.#dirs.get(nodeId);
    if (dir === undefined) {
      dir = mkdtempSync(join(tmpdir(), 'shoal-'));
      this.#dirs.set(nodeId, dir);
    }
    return dir;
  }

  async bootstrap(init: Partial<ClusterInit> = {}): Promise<{ manager: Manager; identity: NodeIdentity }> {
    const { identity, rootCa } = createBootstrapIdentity({ nowMs: Date.now(), random: systemRandom });
    return { manager: await this.start(identity, { kind: 'bootstrap' }, { rootCa, ...init }), identity };
  }

  /** The join token of a role, from any manager's store. */
  token(role: 'manager' | 'worker'): string {
    const view = (this.managers[0] as Manager).store.view();
    return clusterOf(view)?.root_ca?.join_tokens?.[role] ?? '';
  }

  /** A certificate by token from the manager at an address. */
  certificate(remoteAddr: string, token: string): Promise<NodeIdentity> {
    return requestCertificate({ remoteAddr, token, clock: systemClock, random: systemRandom, log: this.#log });
  }

  async join(remoteAddr: string): Promise<{ manager: Manager; identity: NodeIdentity }> {
    const identity = await this.certificate(remoteAddr, this.token('manager'));
    return { manager: await this.start(identity, { kind: 'join', remoteAddr }), identity };
  }

  leader(): Manager | undefined {
    return this.managers.find((manager) => manager.isLeader());
  }

  /** Stops one manager and takes it out of the list; its directory stays. */
  async stop(manager: Manager): Promise<void> {
    const at = this.managers.indexOf(manager);
    if (at >= 0) this.managers.splice(at, 1);
    await manager.stop();
  }

  async close(): Promise<void> {
    await Promise.all(this.managers.splice(0).map((manager) => manager.stop()));
    for (const dir of this.#dirs.values()) rmSync(dir, { recursive: true, force: true });
  }
}
