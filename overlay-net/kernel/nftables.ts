import { createRequire } from 'node:module';
import type koffi from 'koffi';
import { inNetworkNamespace, ShoalError } from '../../base/index.ts';

/** The functions of libnftables (libnftables(3)). */
interface NftLibrary {
  open: (flags: number) => unknown;
  free: (context: unknown) => void;
  bufferOutput: (context: unknown) => number;
  bufferError: (context: unknown) => number;
  output: (context: unknown) => string;
  error: (context: unknown) => string;
  run: (context: unknown, text: string) => number;
}

/** Loads libnftables. @throws Error when it is not installed. */
export function loadNftables(): NftLibrary {
  const require = createRequire(import.meta.url);
  const ffi = require('koffi') as typeof koffi;
  const lib = ffi.load('libnftables.so.1');
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

/** Runs commands as one transaction in a namespace. The context's socket belongs to that namespace, so none is kept. */
export function runNft(library: NftLibrary, namespace: string | null, text: string): string {
  const run = (): string => {
    const context = library.open(0);
    try {
      library.bufferOutput(context);
      library.bufferError(context);
      const code = library.run(context, text);
      if (code !== 0) throw nftError(library.error(context));
      return library.output(context);
    } finally {
      library.free(context);
    }
  };
  return namespace === null ? run() : inNetworkNamespace(namespace, run);
}
