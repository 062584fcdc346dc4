import { readFileSync } from 'node:fs';
import type { Timer } from '../../base/index.ts';
import type { Container, EngineEvent, Image, ImageConfig } from '../types.ts';
import type { Parts } from './parts.ts';
import type { StoredContainer } from './store.ts';
import type { ExitStatus } from './waiter.ts';

/** A state that was written is on the disk after this time, ms: containers that end sooner spare it the work. */
const SETTLE_MS = 1_000;
/** A write that failed is tried again after this time, ms. */
const RETRY_MS = 2_000;

/** What is known of one container: in memory, on disk, and told to listeners. */
export class ContainerRecord {
  readonly parts: Parts;
  readonly stored: StoredContainer;
  /** @throws ShoalError NotFound when its image was removed by force. */
  readonly image: () => Image;
  #writing: Promise<void> = Promise.resolve();
  #timer: Timer | undefined;
  /** No more writes: it is removed, or the daemon goes. */
  #ended = false;

  constructor(parts: Parts, stored: StoredContainer, image: () => Image) {
    this.parts = parts;
    this.stored = stored;
    this.image = image;
  }

  get container(): Container {
    return this.stored.container;
  }

  /** Whether it has a process: a paused one has. */
  get running(): boolean {
    return this.container.state === 'running' || this.container.state === 'paused';
  }

  /** Writes of one container follow each other. */
  #write(write: () => Promise<void>): Promise<void> {
    const written = this.#writing.then(() => (this.#ended ? undefined : write()));
    this.#writing = written.catch(() => undefined);
    return written;
  }

  /** Writes the record durably: what a user asked for survives a power cut from now on. */
  save(first = false): Promise<void> {
    return this.#write(() => this.parts.store.write(this.stored, first));
  }

  /** Writes the record so that it survives the daemon's end; the disk has it a moment later. @throws when that fails */
  async saveState(): Promise<void> {
    await this.#write(() => this.parts.store.writeState(this.stored));
    this.#later(SETTLE_MS);
  }

  /**
   * As `saveState`, for what has happened and cannot be taken back: never throws. What a full disk refuses is tried
   * again until it is written; the container's end goes on meanwhile.
   */
  async note(): Promise<void> {
    await this.saveState().catch((error: unknown) => {
      if (this.#ended) return;
      this.parts.log.error('a container cannot be saved; it is tried again', { id: this.container.id, error });
      this.#later(RETRY_MS);
    });
  }

  /** As `note`, for who cannot wait. */
  saveLater(): void {
    void this.note();
  }

  #later(delayMs: number): void {
    this.#timer?.cancel();
    this.#timer = this.parts.clock.after(delayMs, () => {
      void this.save().catch((error: unknown) => {
        if (this.#ended) return;
        this.parts.log.warn('a container cannot be saved; it is tried again', { id: this.container.id, error });
        this.#later(RETRY_MS);
      });
    });
  }

  /** Nothing is written any more when this resolves. What was written by then is what the next daemon finds. */
  async end(): Promise<void> {
    this.#timer?.cancel();
    const last = this.#writing;
    this.#ended = true;
    await last;
  }

  event(action: string, more: Readonly<Record<string, string>> = {}): void {
    const { id, config } = this.container;
    const event: EngineEvent = {
      type: 'container',
      action,
      actorId: id,
      attributes: { ...config.labels, image: config.image, name: config.name, ...more },
      timeMs: this.parts.clock.now(),
    };
    this.parts.publish(event);
  }

  /** Its image's configuration; empty when the image was removed by force: the container keeps what it has. */
  imageConfig(): ImageConfig {
    try {
      return this.image().config;
    } catch {
      return {};
    }
  }

  /** The exit code that conmon wrote, or undefined while there is none. */
  exitFile(): number | undefined {
    try {
      const text = readFileSync(this.parts.runtime.exitFile(this.container.id), 'utf8').trim();
      return text === '' ? undefined : Number(text);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** How it ended last. */
  status(): ExitStatus {
    const { exitCode, error } = this.container;
    return { exitCode, ...(error === '' ? {} : { error }) };
  }
}

/** What a container that never ran is told of. */
export const NEVER_RUN = {
  state: 'created' as const,
  pid: 0,
  exitCode: 0,
  oomKilled: false,
  error: '',
  startedMs: 0,
  finishedMs: 0,
  restartCount: 0,
  endpoints: [],
  ports: [],
};
