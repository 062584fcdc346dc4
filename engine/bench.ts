import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { nativeSpawner } from '../base/index.ts';
import { config, makeFixture, noNetworks } from './containers/fixture.ts';

/** Measures starts and removals per second, and memory per container: `npx tsx engine/bench.ts [containers]`. */
const count = Number(process.argv[2] ?? 100);
const NS_PER_MS = 1e6;

function rssKb(pid: number): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0);
}

async function main(): Promise<void> {
  const spawner = nativeSpawner();
  const fixture = makeFixture();
  const engine = await fixture.open(noNetworks(), spawner);
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const lap = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    delay.reset();
    const begin = performance.now();
    await work();
    const seconds = (performance.now() - begin) / 1000;
    const late = `event loop p99 ${(delay.percentile(99) / NS_PER_MS).toFixed(1)} ms, max ${(delay.max / NS_PER_MS).toFixed(1)} ms`;
    process.stdout.write(`${what}: ${(count / seconds).toFixed(1)}/s (${seconds.toFixed(2)} s; ${late})\n`);
  };
  const ids: string[] = [];
  const { containers } = engine;
  await lap('create', async () => {
    await Promise.all(
      Array.from({ length: count }, async () =>
        ids.push((await containers.create(config({ cmd: ['sleep', '1000'] }))).id),
      ),
    );
  });
  await lap('start', () => Promise.all(ids.map((id) => containers.start(id))));
  const conmons = ids.map((id) => Number(readFileSync(join(fixture.base, 'run/bundles', id, 'conmon.pid'), 'utf8')));
  const perContainer = conmons.reduce((sum, pid) => sum + rssKb(pid), 0) / count;
  process.stdout.write(`conmon: ${perContainer.toFixed(0)} kB resident each; engine ${rssKb(process.pid)} kB in all\n`);
  await lap('stop by SIGKILL and remove', () =>
    Promise.all(ids.map((id) => containers.remove(id, { force: true, volumes: false }))),
  );
  await engine.shutdown();
  await fixture.destroy();
  spawner.close();
}

await main();
