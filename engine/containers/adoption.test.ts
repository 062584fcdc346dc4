import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { config, logText, makeFixture, until, type Fixture } from './fixture.ts';

const never = new AbortController().signal;

/** Runs a daemon of its own that starts containers, then kills it by SIGKILL once it says that they run. */
async function crashedDaemon(base: string, script: string): Promise<void> {
  const path = join(base, 'daemon.mts');
  const fixturePath = new URL('./fixture.ts', import.meta.url).pathname;
  writeFileSync(
    path,
    `import { writeFileSync } from 'node:fs';
import { config, makeFixture } from ${JSON.stringify(fixturePath)};
const engine = await makeFixture(${JSON.stringify(base)}).open();
const run = async (overrides) => {
  const { id } = await engine.containers.create(config(overrides));
  await engine.containers.start(id);
  return id;
};
${script}
writeFileSync(${JSON.stringify(join(base, 'ready'))}, '');
setInterval(() => undefined, 1000);
`,
  );
  const child = spawn(process.execPath, ['--import', 'tsx', path], { stdio: ['ignore', 'ignore', 'inherit'] });
  try {
    await until(() => existsSync(join(base, 'ready')), 'the daemon to be killed is ready');
  } finally {
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
  }
}

async function within(work: (fixture: Fixture) => Promise<void>): Promise<void> {
  const base = mkdtempSync(join(tmpdir(), 'shoal-'));
  const fixture = makeFixture(base);
  try {
    await work(fixture);
  } finally {
    await fixture.destroy();
  }
}

test('containers survive kill -9 of the daemon and are taken over with log and exit code', () =>
  within(async (fixture) => {
    await crashedDaemon(
      fixture.base,
      `await run({ name: 'long', cmd: ['sh', '-c', 'echo before; while ! ls /go; do sleep 0.05; done 2>/dev/null; echo after; exit 9'],
        files: [{ target: '/run/secrets/s', data: Buffer.from('x'), uid: 0, gid: 0, mode: 0o400 }],
        restart: { name: 'on-failure', maximumRetryCount: 1 } });
      await run({ name: 'short', cmd: ['sh', '-c', 'while ! ls /go; do sleep 0.05; done 2>/dev/null; exit 4'] });
      await run({ name: 'always', cmd: ['sleep', '1000'], restart: { name: 'always', maximumRetryCount: 0 } });`,
    );
    // One ends while no daemon runs: its exit code waits in the exit file.
    const stored = (name: string): { id: string; pid: number } => find(fixture.base, name);
    writeFileSync(`/proc/${stored('short').pid}/root/go`, '');
    await until(() => existsSync(join(fixture.base, 'run/exits', stored('short').id)), 'the exit file');
    const engine = await fixture.open();
    const { containers } = engine;
    expect(containers.inspect('short')).toMatchObject({ state: 'exited', exitCode: 4 });
    const long = containers.inspect('long');
    expect(long).toMatchObject({ state: 'running', pid: stored('long').pid });
    expect(containers.inspect('always').pid).toBe(stored('always').pid);
    const inside = await containers.exec(
      'long',
      { command: ['cat', '/run/secrets/s'], env: [], privileged: false },
      never,
    );
    expect(String(inside.stdout)).toBe('x');
    const exit = containers.wait('long', 'next-exit', never);
    writeFileSync(`/proc/${long.pid}/root/go`, '');
    expect(await exit).toEqual({ exitCode: 9 });
    expect((await logText(engine, 'long')).out).toContain('before\n');
    // The restart needs the secret, which only the tmpfs still has.
    await until(
      () => containers.inspect('long').restartCount === 1 && containers.inspect('long').state === 'exited',
      'restart',
    );
    expect((await logText(engine, 'long')).out.match(/after/g)?.length).toBe(2);
    await engine.shutdown();
  }));

test('a killed monitor ends its container; a start that was cut off leaves nothing', () =>
  within(async (fixture) => {
    const engine = await fixture.open();
    const { id } = await engine.containers.create(config({ name: 'orphan', cmd: ['sleep', '1000'] }));
    await engine.containers.start(id);
    const { pid } = engine.containers.inspect(id);
    const exit = engine.containers.wait(id, 'not-running', never);
    process.kill(Number(readFileSync(join(fixture.base, 'run/bundles', id, 'conmon.pid'), 'utf8')), 'SIGKILL');
    expect(await exit).toEqual({ exitCode: 137, error: 'the monitor of the container was killed' });
    expect(existsSync(`/proc/${pid}/root/bin`)).toBe(false);
    await engine.containers.start(id);
    await engine.shutdown();
    // As if the daemon had died between the runtime's start and its own note of it.
    const directory = join(fixture.base, 'data/containers', id);
    const file = ['state.json', 'container.json'].map((name) => join(directory, name)).find(existsSync) as string;
    const record = JSON.parse(readFileSync(file, 'utf8')) as { stored: { container: { state: string; pid: number } } };
    const left = record.stored.container.pid;
    Object.assign(record.stored.container, { state: 'created', pid: 0 });
    writeFileSync(file, JSON.stringify(record));
    const again = await fixture.open();
    expect(again.containers.inspect(id).state).toBe('created');
    expect(existsSync(`/proc/${left}/root/bin`)).toBe(false);
    await again.containers.start(id);
    await again.containers.remove(id, { force: true, volumes: false });
    await again.shutdown();
  }));

function find(base: string, name: string): { id: string; pid: number } {
  const root = join(base, 'data/containers');
  for (const id of readdirSync(root)) {
    const file = ['state.json', 'container.json'].map((part) => join(root, id, part)).find(existsSync) as string;
    const text = readFileSync(file, 'utf8');
    const { container } = (JSON.parse(text) as { stored: { container: { config: { name: string }; pid: number } } })
      .stored;
    if (container.config.name === name) return { id, pid: container.pid };
  }
  throw new Error(`no container ${name}`);
}
