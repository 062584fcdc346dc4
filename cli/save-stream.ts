import { createWriteStream, renameSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Context } from './context.ts';

/** Files that hold images and containers are their owner's alone. */
const FILE_MODE = 0o600;

/** Refuses a file whose folder is missing, or that is a folder. @throws Error with docker's words in front */
function checkTarget(path: string, failure: string): void {
  const exists = (file: string): boolean => statSync(file, { throwIfNoEntry: false }) !== undefined;
  if (!exists(dirname(path))) {
    throw new Error(`${failure}: invalid output path: stat ${dirname(path)}: no such file or directory`);
  }
  if (statSync(path, { throwIfNoEntry: false })?.isDirectory() === true) {
    throw new Error(`${failure}: invalid output path: ${path}: is a directory`);
  }
}

/**
 * Writes a stream of the daemon to a file, which is whole or not there at all, or to standard output.
 * @param file the file; empty for standard output, which must be no terminal.
 * @param failure what is said in front of a reason why the file cannot be written
 */
export async function saveStream(
  context: Context,
  file: string,
  failure: string,
  open: () => Promise<Readable>,
): Promise<void> {
  if (file === '') {
    if (context.out.isTerminal) {
      throw new Error('cowardly refusing to save to a terminal. Use the -o flag or redirect');
    }
    for await (const chunk of (await open()) as AsyncIterable<Uint8Array>) {
      context.out.write(chunk);
      await context.out.drained?.();
    }
    return;
  }
  checkTarget(file, failure);
  const body = await open();
  const half = `${file}.${process.pid}.part`;
  try {
    await pipeline(body, createWriteStream(half, { mode: FILE_MODE }));
    renameSync(half, file);
  } catch (error) {
    rmSync(half, { force: true });
    throw error;
  }
}
