import { createPrivateKey, X509Certificate } from 'node:crypto';
import { mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { assert, readFileIfExists, ShoalError, syncDirectory, writeFileDurably } from '../base/index.ts';
import { encodeKeyFile, NO_LOCK, openKeyFile, parseKeyFile, type KeyFile, type KeyLock } from './key-file.ts';
import { identityFromPem, type NodeIdentity } from './node-identity.ts';

/** `locked`: there is one, and it takes the unlock key to read it. */
export type IdentityState = 'absent' | 'locked' | 'open';

/** What to change of a stored key file; absent parts stay. */
export interface KeyFileChange {
  lock?: KeyLock;
  /** Secrets to set by name; null removes one. */
  headers?: Readonly<Record<string, Uint8Array | null>>;
}

const fits = (cert: string, key: string): boolean => new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));

/**
 * The identity of this node in `<stateDir>/certificates` (Docker's file names), and the secrets of a manager that share its
 * lock. They lie in headers of the key file: so a new unlock key takes effect for all of them in one rename, and no crash
 * leaves secrets under two different keys.
 */
export class IdentityStore {
  readonly #files: { dir: string; root: string; cert: string; key: string; nextKey: string };
  #identity: NodeIdentity | undefined;
  #keyFile: KeyFile | undefined;
  #locked = false;

  constructor(stateDir: string) {
    const dir = join(stateDir, 'certificates');
    this.#files = {
      dir,
      root: join(dir, 'swarm-root-ca.crt'),
      cert: join(dir, 'swarm-node.crt'),
      key: join(dir, 'swarm-node.key'),
      nextKey: join(dir, 'swarm-node.key.next'),
    };
  }

  get state(): IdentityState {
    if (this.#identity !== undefined) return 'open';
    return this.#locked ? 'locked' : 'absent';
  }

  /** Undefined unless the state is `open`. */
  get identity(): NodeIdentity | undefined {
    return this.#identity;
  }

  get lock(): KeyLock {
    return this.#keyFile?.lock ?? NO_LOCK;
  }

  /** A secret beside the key; undefined when there is none of this name. */
  header(name: string): Uint8Array | undefined {
    return this.#keyFile?.headers.get(name);
  }

  /**
   * Reads what is stored.
   * @param secret unlock key, if it is at hand.
   * @param options.settle false leaves the files as they are, also where a crash interrupted a renewal.
   * @throws ShoalError DataLoss when the files do not belong together; InvalidArgument when they cannot be read.
   */
  load(secret: Uint8Array | null = null, { settle = true } = {}): IdentityState {
    this.#identity = undefined;
    this.#keyFile = undefined;
    this.#locked = false;
    const files = this.#files;
    const [rootCa, cert] = [readFileIfExists(files.root), readFileIfExists(files.cert)];
    if (rootCa === undefined || cert === undefined) return 'absent';
    for (const path of [files.key, files.nextKey]) {
      const text = readFileIfExists(path);
      if (text === undefined) continue;
      const stored = parseKeyFile(text);
      const opened = openKeyFile(stored, secret);
      if (opened === undefined) this.#locked = true;
      else if (fits(cert, opened.key)) {
        if (settle) this.#settle(path);
        this.#locked = false;
        this.#keyFile = opened;
        this.#identity = identityFromPem(cert, opened.key, rootCa);
        return 'open';
      }
    }
    if (this.#locked) return 'locked';
    throw new ShoalError(
      'DataLoss',
      `the private key in ${files.dir} does not fit the certificate; remove the directory and join the node again`,
    );
  }

  /** Ends a renewal that a crash interrupted: of two keys the one that fits stays, under the usual name. */
  #settle(path: string): void {
    const { dir, key, nextKey } = this.#files;
    if (path === nextKey) renameSync(nextKey, key);
    else rmSync(nextKey, { force: true });
    syncDirectory(dir);
  }

  /** Opens what is locked. @returns false when the key is another */
  unlock(secret: Uint8Array): boolean {
    return this.load(secret) === 'open';
  }

  /**
   * Stores an identity; lock and further secrets stay as they are unless `change` says otherwise. The new key lies beside
   * the old one until the certificate is replaced, so a crash between the two writes loses neither pair.
   */
  save(identity: NodeIdentity, change: KeyFileChange = {}): void {
    const files = this.#files;
    const next = this.#changed(identity.key, change);
    mkdirSync(files.dir, { recursive: true, mode: 0o700 });
    writeFileDurably(files.root, identity.rootCa, 0o644);
    writeFileDurably(files.nextKey, encodeKeyFile(next), 0o600);
    writeFileDurably(files.cert, identity.cert, 0o644);
    renameSync(files.nextKey, files.key);
    syncDirectory(files.dir);
    this.#identity = identity;
    this.#keyFile = next;
    this.#locked = false;
  }

  /** Changes lock and further secrets in one durable step. */
  update(change: KeyFileChange): void {
    assert(this.#keyFile !== undefined, 'a key file is changed only when it is open');
    const next = this.#changed(this.#keyFile.key, change);
    writeFileDurably(this.#files.key, encodeKeyFile(next), 0o600);
    this.#keyFile = next;
  }

  #changed(key: string, change: KeyFileChange): KeyFile {
    const headers = new Map(this.#keyFile?.headers);
    for (const [name, content] of Object.entries(change.headers ?? {})) {
      if (content === null) headers.delete(name);
      else headers.set(name, content);
    }
    return { key, headers, lock: change.lock ?? this.lock };
  }

  /** Forgets the stored identity (the node left its cluster). */
  remove(): void {
    rmSync(this.#files.dir, { recursive: true, force: true });
    this.#identity = undefined;
    this.#keyFile = undefined;
    this.#locked = false;
  }
}
