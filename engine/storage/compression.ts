import { createReadStream, createWriteStream, statSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { errorMessage, invalidArgument, ShoalError, type Spawner, type SpawnResult } from '../../base/index.ts';
import { spaceError, unpackLimit, type UnpackLimit } from './limits.ts';

export type Compression = 'none' | 'gzip' | 'zstd' | 'xz' | 'bzip2';

/** Time one decompression by a program may take, ms. */
const DECOMPRESS_TIMEOUT_MS = 30 * 60_000;

const MAGIC: readonly (readonly [Compression, readonly number[]])[] = [
  ['gzip', [0x1f, 0x8b]],
  ['zstd', [0x28, 0xb5, 0x2f, 0xfd]],
  ['xz', [0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00]],
  ['bzip2', [0x42, 0x5a, 0x68]],
];

/** How data is compressed, told from its first bytes (RFC 1952, RFC 8878, the xz and bzip2 formats). */
export function compressionOf(head: Uint8Array): Compression {
  for (const [name, magic] of MAGIC) {
    if (magic.length <= head.length && magic.every((byte, i) => head[i] === byte)) return name;
  }
  return 'none';
}

/** As `compressionOf`, of a file. */
export async function detectCompression(path: string): Promise<Compression> {
  const file = await open(path, 'r');
  try {
    const head = Buffer.alloc(8);
    const { bytesRead } = await file.read(head, 0, head.length, 0);
    return compressionOf(head.subarray(0, bytesRead));
  } finally {
    await file.close();
  }
}

/** Sees the bytes of a stream as they pass. */
export type Tap = (chunk: Buffer) => void;

async function* tapped(source: AsyncIterable<Buffer>, tap: Tap): AsyncGenerator<Buffer> {
  for await (const chunk of source) {
    tap(chunk);
    yield chunk;
  }
}

/** As `tap`, which sees no more than the limit. @throws ShoalError beyond it */
function limited(tap: Tap, limit: UnpackLimit): Tap {
  let bytes = 0;
  return (chunk) => {
    bytes += chunk.length;
    if (bytes > limit.maxBytes) throw limit.refuse();
    tap(chunk);
  };
}

const READ_CHUNK_BYTES = 256 * 1024;

/** Passes every byte of a file through `tap`. */
export async function readThrough(path: string, tap: Tap): Promise<void> {
  for await (const chunk of createReadStream(path, { highWaterMark: READ_CHUNK_BYTES })) tap(chunk as Buffer);
}

function programError(program: string, { code, signal, stderr, timedOut }: SpawnResult, directory: string): unknown {
  if (timedOut) return new ShoalError('DeadlineExceeded', `${program} took too long to unpack an archive`);
  const words = stderr.toString('utf8').trim() || `it ended by ${signal ?? `exit code ${code}`}`;
  return spaceError(invalidArgument(`damaged ${program} data: ${words}`), `the ${program} archive`, directory);
}

/**
 * Passes the uncompressed bytes of `path` through `tap` and returns a file that holds them: `path` itself when it is
 * not compressed, else `scratch` (written here; the caller removes it).
 * @throws ShoalError InvalidArgument when the compressed data is damaged, or grows beyond all reason;
 *   ResourceExhausted when it would fill the disk.
 */
export async function decompress(
  spawner: Spawner,
  path: string,
  scratch: string,
  tap: Tap,
): Promise<{ path: string; compression: Compression }> {
  const compression = await detectCompression(path);
  if (compression === 'none') {
    await readThrough(path, tap);
    return { path, compression };
  }
  const limit = unpackLimit(dirname(scratch), statSync(path).size, `the ${compression} archive`);
  if (compression === 'gzip') {
    const watched = limited(tap, limit);
    const source = createReadStream(path, { highWaterMark: READ_CHUNK_BYTES });
    const inflate = createGunzip({ chunkSize: READ_CHUNK_BYTES });
    let refused: { error: unknown } | undefined;
    const watch: Tap = (chunk) => {
      try {
        watched(chunk);
      } catch (error) {
        refused = { error };
        throw error;
      }
    };
    try {
      await pipeline(
        source,
        inflate,
        (stream: AsyncIterable<Buffer>) => tapped(stream, watch),
        createWriteStream(scratch),
      );
    } catch (error) {
      if (refused !== undefined) throw refused.error;
      const code = (error as NodeJS.ErrnoException).code ?? '';
      if (code.startsWith('Z_')) throw invalidArgument(`damaged gzip data: ${errorMessage(error)}`);
      throw spaceError(error, 'the gzip archive', dirname(scratch));
    }
    return { path: scratch, compression };
  }
  // The kernel stops the program at the limit: nothing has to watch it.
  const result = await spawner.run({
    file: 'prlimit',
    args: [`--fsize=${Math.floor(limit.maxBytes)}`, '--core=0', '--', compression, '-dc'],
    stdinFile: path,
    stdoutFile: scratch,
    timeoutMs: DECOMPRESS_TIMEOUT_MS,
  });
  // Some end by the signal, others look at the error.
  if (result.signal === 'SIGXFSZ' || /file too large/i.test(result.stderr.toString('utf8'))) throw limit.refuse();
  if (result.code !== 0) throw programError(compression, result, dirname(scratch));
  await readThrough(scratch, tap);
  return { path: scratch, compression };
}
