import { createServer } from 'node:net';
import { expect, it } from 'vitest';
import { SeededRandom, VirtualClock } from '../base/index.ts';
import { PROBE_TIMEOUT_MS, Prober } from './prober.ts';
import { reaches } from './reach.ts';

/** Hosts that answer at once, or after the timeout that nobody is there. */
function world() {
  const clock = new VirtualClock(0);
  const up = new Set<string>();
  const asked: string[] = [];
  const answers: { address: string; atMs: number }[] = [];
  const prober = new Prober({
    clock,
    random: new SeededRandom(1),
    onAnswer: (address) => answers.push({ address, atMs: clock.now() }),
    reaches: async (address, timeoutMs, signal) => {
      asked.push(address);
      if (up.has(address)) return true;
      await clock.sleep(timeoutMs, signal).catch(() => undefined);
      return false;
    },
  });
  return { clock, up, asked, answers, prober };
}

it('says soon after a silent host answers again, however long it was silent', async () => {
  const { clock, up, answers, prober } = world();
  prober.suspect('a');
  await clock.advanceAsync(PROBE_TIMEOUT_MS);
  expect(prober.isSilent('a')).toBe(true);
  await clock.advanceAsync(100_000);
  up.add('a');
  const before = clock.now();
  await clock.advanceAsync(1_000);
  expect(answers).toEqual([{ address: 'a', atMs: expect.any(Number) }]);
  expect(answers[0]!.atMs - before).toBeLessThanOrEqual(500);
  expect(prober.isSilent('a')).toBe(false);
  await clock.advanceAsync(10_000);
  expect(answers).toHaveLength(1);
});

it('has no news of a host that takes connections but is busy', async () => {
  const { clock, up, asked, answers, prober } = world();
  up.add('a');
  for (let i = 0; i < 10; i++) {
    prober.suspect('a');
    await clock.advanceAsync(5_000);
  }
  expect(answers).toEqual([]);
  expect(asked).toHaveLength(10);
});

it('asks seldom, one host after the other, and stops when there is a session', async () => {
  const { clock, asked, prober } = world();
  for (const address of ['a', 'b', 'c', 'b']) prober.suspect(address);
  await clock.advanceAsync(30_000);
  expect(asked.length).toBeLessThanOrEqual(121);
  expect(asked.filter((address) => address === 'b').length).toBeLessThanOrEqual(asked.length / 3 + 1);
  await prober.clear();
  const before = asked.length;
  await clock.advanceAsync(10_000);
  expect(asked).toHaveLength(before);
  prober.suspect('a');
  await clock.advanceAsync(1_000);
  expect(asked.length).toBeGreaterThan(before);
  await prober.clear();
});

it('a host is reached when it takes a TCP connection', async () => {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  const { signal } = new AbortController();
  expect(await reaches(`127.0.0.1:${port}`, 1_000, signal)).toBe(true);
  await new Promise((resolve) => server.close(resolve));
  expect(await reaches(`127.0.0.1:${port}`, 1_000, signal)).toBe(false);
  for (const bad of ['nonsense', 'host:0', ':1']) expect(await reaches(bad, 1_000, signal)).toBe(false);
  expect(await reaches(`127.0.0.1:${port}`, 1_000, AbortSignal.abort())).toBe(false);
});
