import { createReadStream, createWriteStream, rmSync } from 'node:fs';
import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { errorMessage, invalidArgument, type Spawner } from '../../base/index.ts';
import { compressionOf, decompress } from '../storage/index.ts';

/** Bytes that tell a compression. */
const HEAD_BYTES = 8;

/** The first bytes of a stream, and the whole of it again. */
async function peek(stream: Readable): Promise<{ head: Buffer; whole: AsyncIterable<Buffer> }> {
  const chunks: Buffer[] = [];
  let size = 0;
  const source = (stream as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  while (size < HEAD_BYTES) {
    const { done, value } = await source.next();
    if (done === true) break;
    chunks.push(value);
    size += value.length;
  }
  async function* whole(): AsyncGenerator<Buffer> {
    yield* chunks;
    for (let next = await source.next(); next.done !== true; next = await source.next()) yield next.value;
  }
  return { head: Buffer.concat(chunks).subarray(0, HEAD_BYTES), whole: whole() };
}

/** Whether a stream ended because the other side takes no more: then the other side says why. */
function isRefusal(error: unknown): boolean {
  return ['EPIPE', 'ECONNRESET', 'ERR_STREAM_PREMATURE_CLOSE', 'ERR_STREAM_DESTROYED', 'ABORT_ERR'].includes(
    (error as NodeJS.ErrnoException).code ?? '',
  );
}

/**
 * Sends an archive, uncompressed, into a socket and ends it. gzip is undone on the way; bzip2, xz and zstd by their
 * programs through files beside `spare`, which are gone afterwards. That the receiver takes no more is no error here.
 * @throws ShoalError InvalidArgument for damaged data
 */
export async function sendArchive(spawner: Spawner, archive: Readable, socket: Socket, spare: string): Promise<void> {
  const { head, whole } = await peek(archive);
  const compression = compressionOf(head);
  const files = [spare, `${spare}.plain`] as const;
  try {
    if (compression === 'none') await pipeline(whole, socket);
    else if (compression === 'gzip') await pipeline(whole, createGunzip(), socket);
    else {
      await pipeline(whole, createWriteStream(files[0], { mode: 0o600 }));
      const plain = await decompress(spawner, files[0], files[1], () => undefined);
      await pipeline(createReadStream(plain.path), socket);
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code?.startsWith('Z_') === true) {
      throw invalidArgument(`damaged gzip data: ${errorMessage(error)}`);
    }
    if (!isRefusal(error)) throw error;
  } finally {
    for (const file of files) rmSync(file, { force: true });
  }
}
