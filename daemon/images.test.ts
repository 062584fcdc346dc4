import { describe, expect, it } from 'vitest';
import { notFound, silentLogger, VirtualClock } from '../base/index.ts';
import type { Image, Images } from '../engine/index.ts';
import { TaskImages } from './images.ts';

/** A store whose pulls end as the test says. */
class FakeImages {
  readonly local = new Set<string>();
  failure: Error | undefined;
  pulls = 0;

  get(reference: string): Image {
    if (!this.local.has(reference)) throw notFound(`No such image: ${reference}`);
    return {} as Image;
  }

  async pull(reference: string): Promise<void> {
    this.pulls++;
    await Promise.resolve();
    if (this.failure !== undefined) throw this.failure;
    this.local.add(reference);
  }
}

const clock = new VirtualClock(1_000_000);
const signal = new AbortController().signal;

function make(): { fake: FakeImages; images: TaskImages } {
  const fake = new FakeImages();
  const images = new TaskImages({ images: fake as unknown as Images, clock, log: silentLogger });
  return { fake, images };
}

describe('images for tasks', () => {
  it('are pulled once for tasks that start together', async () => {
    const { fake, images } = make();
    await Promise.all([1, 2, 3].map(() => images.ensure('web:1', '', signal)));
    await images.ensure('web:1', '', signal);
    expect(fake.pulls).toBe(1);
    await clock.advanceAsync(31_000);
    await images.ensure('web:1', '', signal);
    expect(fake.pulls).toBe(2);
  });

  it('are tried again by the replacement of a task that had none', async () => {
    const { fake, images } = make();
    fake.failure = new Error('no space left on device');
    const tries = [1, 2].map(() => images.ensure('web:1', '', signal));
    for (const attempt of tries)
      await expect(attempt).rejects.toThrow('No such image: web:1 (no space left on device)');
    await expect(images.ensure('web:1', '', signal)).rejects.toThrow('No such image');
    expect(fake.pulls).toBe(1);
    fake.failure = undefined;
    await clock.advanceAsync(5_000);
    await images.ensure('web:1', '', signal);
    expect(fake.pulls).toBe(2);
  });

  it('are taken from this host when the registry is away, without asking it for each task', async () => {
    const { fake, images } = make();
    fake.local.add('web:1');
    fake.failure = new Error('connection refused');
    await images.ensure('web:1', '', signal);
    await clock.advanceAsync(5_000);
    await images.ensure('web:1', '', signal);
    expect(fake.pulls).toBe(1);
  });
});
