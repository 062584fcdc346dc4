import { writeBusyboxImage } from '../lab/index.ts';

/** What the image is called on every host. */
export const IMAGE_NAME = 'shoal-bench:1';

/** Writes a busybox image in the form of `docker save`: every host that loads it has it under the same id. */
export async function writeImage(path: string): Promise<void> {
  await writeBusyboxImage(path, { name: IMAGE_NAME, createdBy: 'shoal bench' });
}
