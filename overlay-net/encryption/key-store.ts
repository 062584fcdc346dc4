import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { errorMessage, readFileIfExists, writeFileDurably, type Logger } from '../../base/index.ts';
import type { NetworkKey } from './keys.ts';

/** One key pair of this node; the public key follows from it. */
export interface OwnKey {
  /** Hexadecimal. */
  privateKey: string;
  createdMs: number;
}

/** All secrets of this node's encryption. */
export interface Secrets {
  own: OwnKey;
  /** Told to the managers, and taken when their tables name it. */
  next?: OwnKey;
  networkKeys: NetworkKey[];
}

/** The file that holds the secrets: mode 0600, durable, never sent anywhere. */
export class KeyStore {
  readonly #path: string;
  readonly #log: Logger;

  constructor(stateDir: string, log: Logger) {
    this.#path = join(stateDir, 'wireguard.json');
    this.#log = log;
  }

  load(): Secrets | undefined {
    const text = readFileIfExists(this.#path);
    if (text === undefined) return undefined;
    try {
      const secrets = JSON.parse(text) as Secrets;
      if (!/^[0-9a-f]{64}$/.test(secrets.own.privateKey)) throw new Error('no private key');
      chmodSync(this.#path, 0o600);
      return secrets;
    } catch (error) {
      this.#log.warn('the keys of encrypted networks cannot be read; new ones are made', {
        path: this.#path,
        error: errorMessage(error),
      });
      return undefined;
    }
  }

  save(secrets: Secrets): void {
    mkdirSync(dirname(this.#path), { recursive: true });
    writeFileDurably(this.#path, JSON.stringify(secrets), 0o600);
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }
}
