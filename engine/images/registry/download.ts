import { createHash } from 'node:crypto';
import { rmSync } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';
import { backoffDelayMs, ShoalError, unavailable, type Clock, type Random } from '../../../base/index.ts';
import type { ContentStore } from '../content.ts';
import type { Descriptor } from '../manifest.ts';
import type { RepositoryClient } from './client.ts';
import { header } from './transport.ts';
import { RegistryRefusal } from './words.ts';

/** Attempts in a row that bring no byte before a download is given up. */
export const DOWNLOAD_ATTEMPTS_MAX = 5;
const RETRY = { baseMs: 200, capMs: 5000 };

export interface DownloadContext {
  content: ContentStore;
  clock: Clock;
  random: Random;
}

/** How far a download is. */
interface Progress {
  offset: number;
  hash: ReturnType<typeof createHash>;
}

function retryable(error: unknown): boolean {
  if (error instanceof RegistryRefusal) return error.status >= 500 || error.status === 429 || error.status === 408;
  if (error instanceof ShoalError) return error.code === 'Unavailable';
  // Errors of a connection; those of the disk have a system call of files.
  const { syscall, code } = error as NodeJS.ErrnoException;
  return code !== 'ENOSPC' && syscall !== 'write' && syscall !== 'open';
}

function startsAt(contentRange: string): number {
  return Number(/^bytes (\d+)-/.exec(contentRange)?.[1] ?? Number.NaN);
}

async function receive(
  client: RepositoryClient,
  descriptor: Descriptor,
  file: FileHandle,
  progress: Progress,
  onBytes: (current: number) => void,
): Promise<void> {
  const response = await client.blob(descriptor.digest, progress.offset);
  if (
    progress.offset > 0 &&
    (response.status !== 206 || startsAt(header(response.headers, 'content-range')) !== progress.offset)
  ) {
    if (response.status !== 200) throw unavailable('the registry answered a range request with another range');
    progress.offset = 0;
    progress.hash = createHash('sha256');
    await file.truncate(0);
  }
  for await (const chunk of response.body as AsyncIterable<Buffer>) {
    if (progress.offset + chunk.length > descriptor.size) {
      response.body.destroy();
      throw new ShoalError(
        'DataLoss',
        `blob ${descriptor.digest} is longer than the ${descriptor.size} bytes announced`,
      );
    }
    await writeAll(file, chunk, progress.offset);
    progress.hash.update(chunk);
    progress.offset += chunk.length;
    onBytes(progress.offset);
  }
  if (progress.offset < descriptor.size) throw unavailable(`unexpected EOF after ${progress.offset} bytes`);
}

async function writeAll(file: FileHandle, chunk: Buffer, position: number): Promise<void> {
  for (let done = 0; done < chunk.length;) {
    const { bytesWritten } = await file.write(chunk, done, chunk.length - done, position + done);
    done += bytesWritten;
  }
}

/**
 * Fetches a blob into the content store; a broken connection is taken up where it broke.
 * @throws ShoalError DataLoss when the bytes do not match the digest; nothing is kept of them.
 */
export async function downloadBlob(
  context: DownloadContext,
  client: RepositoryClient,
  descriptor: Descriptor,
  signal: AbortSignal,
  hooks: { onBytes: (current: number) => void; onVerify: () => void },
): Promise<void> {
  const { content, clock, random } = context;
  if (content.has(descriptor.digest)) return;
  const temporary = content.temporaryPath();
  const file = await open(temporary, 'wx', 0o600);
  const progress: Progress = { offset: 0, hash: createHash('sha256') };
  try {
    for (let failures = 0; progress.offset < descriptor.size;) {
      const before = progress.offset;
      try {
        await receive(client, descriptor, file, progress, hooks.onBytes);
      } catch (error) {
        if (progress.offset > before) failures = 0;
        if (signal.aborted || !retryable(error) || ++failures >= DOWNLOAD_ATTEMPTS_MAX) throw error;
        await clock.sleep(backoffDelayMs(failures - 1, RETRY, random), signal);
      }
    }
    hooks.onVerify();
    if (`sha256:${progress.hash.digest('hex')}` !== descriptor.digest) {
      throw new ShoalError('DataLoss', `filesystem layer verification failed for digest ${descriptor.digest}`);
    }
    await file.close();
    await content.adopt(temporary, descriptor.digest);
  } catch (error) {
    await file.close().catch(() => undefined);
    rmSync(temporary, { force: true });
    throw error;
  }
}
