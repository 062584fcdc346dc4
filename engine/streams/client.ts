import type { OutputChunk, StreamEnd } from '../types.ts';

/** Bytes of output that wait for one client before the container is made to wait for it. */
export const CLIENT_BUFFER_MAX_BYTES = 1024 * 1024;
/** Output is handed on in pieces of about this size, bytes; also what a slow client must take in `STUCK_CLIENT_MS`. */
const BATCH_BYTES = 64 * 1024;

export interface ClientWants {
  stdin: boolean;
  stdout: boolean;
  stderr: boolean;
}

/** The output of one client: what it has not taken yet, in order. */
export class ClientQueue {
  readonly wants: ClientWants;
  /** Attached before the process began. */
  readonly first: boolean;
  /** When output was last taken, on the monotonic clock, ms. */
  takenMs: number;
  #chunks: OutputChunk[] = [];
  #size = 0;
  #end: StreamEnd | undefined;
  #wake: (() => void) | undefined;
  readonly #onTaken: () => void;

  constructor(wants: ClientWants, first: boolean, nowMs: number, onTaken: () => void) {
    this.wants = wants;
    this.first = first;
    this.takenMs = nowMs;
    this.#onTaken = onTaken;
  }

  get size(): number {
    return this.#size;
  }

  get full(): boolean {
    return this.#size >= CLIENT_BUFFER_MAX_BYTES;
  }

  get ended(): StreamEnd | undefined {
    return this.#end;
  }

  push(chunk: OutputChunk): void {
    if (this.#end !== undefined || !this.wants[chunk.stream]) return;
    this.#chunks.push(chunk);
    this.#size += chunk.data.length;
    this.#wakeUp();
  }

  end(why: StreamEnd): void {
    if (this.#end !== undefined) return;
    this.#end = why;
    if (why === 'stuck' || why === 'client left') {
      this.#chunks = [];
      this.#size = 0;
    }
    this.#wakeUp();
  }

  #wakeUp(): void {
    this.#wake?.();
    this.#wake = undefined;
  }

  #take(): OutputChunk[] {
    let bytes = 0;
    let count = 0;
    while (count < this.#chunks.length && bytes < BATCH_BYTES) bytes += this.#chunks[count++]?.data.length ?? 0;
    this.#size -= bytes;
    const batch = this.#chunks.splice(0, count);
    this.#onTaken();
    return batch;
  }

  /** Output as it comes, until the end and until all of it is taken. */
  async *batches(): AsyncGenerator<readonly OutputChunk[]> {
    for (;;) {
      if (this.#chunks.length > 0) yield this.#take();
      else if (this.#end !== undefined) return;
      else await new Promise<void>((resolve) => (this.#wake = resolve));
    }
  }
}
