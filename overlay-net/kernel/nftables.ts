import { ffi, inNetworkNamespace, ShoalError } from '../../base/index.ts';
import { LowDescriptors } from './low-descriptors.ts';

/** A function of koffi that can also run on a thread of the pool. */
interface NftRun {
  (context: unknown, text: string): number;
  async: (context: unknown, text: string, done: (error: unknown, code: number) => void) => void;
}

/** The functions of libnftables (libnftables(3)). */
interface NftLibrary {
  open: (flags: number) => unknown;
  free: ((context: unknown) => void) & { async: (context: unknown, done: () => void) => void };
  bufferOutput: (context: unknown) => number;
  bufferError: (context: unknown) => number;
  output: (context: unknown) => string;
  error: (context: unknown) => string;
  run: NftRun;
}

/** Loads libnftables. @throws Error when it is not installed. */
export function loadNftables(): NftLibrary {
  const lib = ffi().load('libnftables.so.1');
  return {
    open: lib.func('void *nft_ctx_new(uint32_t flags)'),
    free: lib.func('void nft_ctx_free(void *ctx)'),
    bufferOutput: lib.func('int nft_ctx_buffer_output(void *ctx)'),
    bufferError: lib.func('int nft_ctx_buffer_error(void *ctx)'),
    output: lib.func('const char *nft_ctx_get_output_buffer(void *ctx)'),
    error: lib.func('const char *nft_ctx_get_error_buffer(void *ctx)'),
    run: lib.func('int nft_run_cmd_from_buffer(void *ctx, const char *buf)'),
  };
}

/** The error's first sentence, without the quoted rule text. */
export function nftError(words: string): ShoalError {
  return new ShoalError('Internal', `nftables: ${words.trim().split('\n').slice(0, 3).join(' | ')}`);
}

interface Job {
  namespace: string | null;
  text: string;
  resolve: (output: string) => void;
  reject: (error: unknown) => void;
}

/** Transactions that may wait; more are refused. */
const WAITING_MAX = 4096;

/**
 * Runs nft transactions one after the other on a thread of the pool: one that deletes anything waits for an RCU grace
 * period (8 to 20 ms measured), which must not hold the loop. The context's socket is made on this thread, inside the
 * namespace, so the other thread never changes namespaces; the library is not known to be safe for two threads at once.
 */
export class NftQueue {
  readonly #library: NftLibrary;
  readonly #descriptors = new LowDescriptors();
  /** Short transactions go before long ones. */
  readonly #urgent: Job[] = [];
  readonly #waiting: Job[] = [];
  #running = false;

  constructor(library: NftLibrary) {
    this.#library = library;
  }

  /**
   * @param urgent the transaction deletes nothing, so it is short.
   * @throws ShoalError ResourceExhausted when too many wait; NoSmallDescriptor. Nothing was changed then.
   */
  run(namespace: string | null, text: string, urgent: boolean): Promise<string> {
    if (this.#waiting.length >= WAITING_MAX) {
      return Promise.reject(new ShoalError('ResourceExhausted', `${WAITING_MAX} changes of nftables are waiting`));
    }
    return new Promise((resolve, reject) => {
      (urgent ? this.#urgent : this.#waiting).push({ namespace, text, resolve, reject });
      this.#next();
    });
  }

  #next(): void {
    if (this.#running) return;
    const job = this.#urgent.shift() ?? this.#waiting.shift();
    if (job === undefined) return;
    this.#running = true;
    try {
      this.#start(job);
    } catch (error) {
      this.#finish(() => job.reject(error));
    }
  }

  #start(job: Job): void {
    const library = this.#library;
    const open = (): unknown => {
      return this.#descriptors.take(() => library.open(0), library.free);
    };
    const context = job.namespace === null ? open() : inNetworkNamespace(job.namespace, open);
    library.bufferOutput(context);
    library.bufferError(context);
    library.run.async(context, job.text, (failure, code) => {
      const output = library.output(context);
      const words = library.error(context);
      if (failure !== null && failure !== undefined) job.reject(failure);
      else if (code !== 0) job.reject(nftError(words));
      else job.resolve(output);
      // Its socket waits for what the kernel still clears away (10 ms after a transaction that deleted).
      library.free.async(context, () => {
        this.#descriptors.refill();
        this.#finish(() => undefined);
      });
    });
  }

  #finish(settle: () => void): void {
    this.#running = false;
    settle();
    this.#next();
  }
}
