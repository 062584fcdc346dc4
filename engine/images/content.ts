import { createHash } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { invalidArgument, newHexId, syncDirectory, writeFileDurably, type Random } from '../../base/index.ts';
import { spaceError, type OnStep } from '../storage/index.ts';
import { isDigest } from './reference.ts';

export function sha256(bytes: Uint8Array | string): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/**
 * Blobs by digest in `<directory>/sha256/<hex>`: configurations, manifests, layer archives. A file there is complete:
 * it was written beside, flushed, checked and renamed.
 */
export class ContentStore {
  readonly #blobs: string;
  readonly #temporary: string;
  readonly #random: Random;
  readonly #onStep: OnStep;

  constructor(directory: string, random: Random, onStep: OnStep = () => undefined) {
    this.#onStep = onStep;
    this.#random = random;
    this.#blobs = join(directory, 'blobs', 'sha256');
    this.#temporary = join(directory, 'tmp');
    mkdirSync(this.#blobs, { recursive: true, mode: 0o700 });
    rmSync(this.#temporary, { recursive: true, force: true });
    mkdirSync(this.#temporary, { mode: 0o700 });
  }

  path(digest: string): string {
    if (!isDigest(digest)) throw invalidArgument(`invalid digest ${JSON.stringify(digest)}: only sha256 is known`);
    return join(this.#blobs, digest.slice('sha256:'.length));
  }

  has(digest: string): boolean {
    return existsSync(this.path(digest));
  }

  size(digest: string): number {
    return statSync(this.path(digest)).size;
  }

  read(digest: string): Buffer {
    return readFileSync(this.path(digest));
  }

  list(): string[] {
    return readdirSync(this.#blobs)
      .filter((name) => /^[a-f0-9]{64}$/.test(name))
      .map((name) => `sha256:${name}`);
  }

  /** Deletes everything but `kept`, and what a crash left half written. */
  sweep(kept: ReadonlySet<string>): void {
    for (const name of readdirSync(this.#blobs)) {
      if (!kept.has(`sha256:${name}`)) rmSync(join(this.#blobs, name), { force: true });
    }
  }

  remove(digest: string): void {
    rmSync(this.path(digest), { force: true });
    this.#onStep('blob removed');
  }

  /** A name below the temporary directory; removed at the next start. */
  temporaryPath(): string {
    return join(this.#temporary, newHexId(this.#random).slice(0, 24));
  }

  /** Stores a small document; returns its digest. */
  put(bytes: Uint8Array): string {
    const digest = sha256(bytes);
    if (!this.has(digest)) writeFileDurably(this.path(digest), bytes);
    this.#onStep('document written');
    return digest;
  }

  /** Takes a finished file (flushed here) as the blob `digest`, which the caller has verified. */
  async adopt(path: string, digest: string): Promise<void> {
    const file = await open(path, 'r');
    try {
      await file.sync();
    } finally {
      await file.close();
    }
    this.#onStep('blob flushed');
    renameSync(path, this.path(digest));
    this.#onStep('blob renamed');
    syncDirectory(this.#blobs);
  }

  /** Copies a file in; returns its digest and size. `claim` is told the digest before the blob can be found. */
  async copyIn(source: string, claim: (digest: string) => void): Promise<{ digest: string; sizeBytes: number }> {
    const temporary = this.temporaryPath();
    const hash = createHash('sha256');
    let sizeBytes = 0;
    const file = await open(temporary, 'wx', 0o600);
    try {
      for await (const chunk of createReadStream(source, { highWaterMark: 256 * 1024 })) {
        hash.update(chunk as Buffer);
        sizeBytes += (chunk as Buffer).length;
        await file.writeFile(chunk as Buffer);
      }
    } catch (error) {
      rmSync(temporary, { force: true });
      throw spaceError(error, 'the archive', this.#temporary);
    } finally {
      await file.close();
    }
    const digest = `sha256:${hash.digest('hex')}`;
    claim(digest);
    if (this.has(digest)) rmSync(temporary, { force: true });
    else await this.adopt(temporary, digest);
    return { digest, sizeBytes };
  }
}
