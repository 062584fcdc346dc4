import { readFileSync } from 'node:fs';
import type { Container, EngineEvent, Image, ImageConfig } from '../types.ts';
import type { Parts } from './parts.ts';
import type { StoredContainer } from './store.ts';
import type { ExitStatus } from './waiter.ts';

/** What is known of one container: in memory, on disk, and told to listeners. */
export class ContainerRecord {
  readonly parts: Parts;
  readonly stored: StoredContainer;
  /** @throws ShoalError NotFound when its image was removed by force. */
  readonly image: () => Image;
  #writing: Promise<void> = Promise.resolve();

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

  /** Writes the record; writes of one container follow each other. */
  save(first = false): Promise<void> {
    const write = this.#writing.then(() => this.parts.store.write(this.stored, first));
    this.#writing = write.catch(() => undefined);
    return write;
  }

  /** As `save`, for who cannot wait; a failure is logged. */
  saveLater(): void {
    void this.save().catch((error: unknown) => {
      this.parts.log.error('a container cannot be saved', { id: this.container.id, error });
    });
  }

  /** Resolves when no write is under way. */
  written(): Promise<void> {
    return this.#writing;
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
