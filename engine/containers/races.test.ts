/** What users do to a container that ends or goes in the same moment. */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { Engine } from '../engine.ts';
import type { ContainerConfig, ExecCreateRequest } from '../types.ts';
import { config, startOne, until } from './fixture.ts';
import { useFixture } from './use-fixture.ts';

let engine: Engine;
useFixture((_fixture, ours) => {
  engine = ours;
});

const started = (overrides: Partial<ContainerConfig> = {}): Promise<string> => startOne(engine, overrides);
const remove = (id: string): Promise<void> => engine.containers.remove(id, { force: true, volumes: true });
const EXEC: ExecCreateRequest = {
  ...{ command: ['true'], env: [], privileged: false, tty: false, detachKeys: '' },
  ...{ attachStdin: false, attachStdout: true, attachStderr: true },
};

test('exec and update of a container whose end is not recorded yet are conflicts', async () => {
  const id = await started();
  const exec = await engine.terminals.createExec(id, EXEC);
  const { pid } = engine.containers.inspect(id);
  const conmon = Number(/PPid:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
  process.kill(conmon, 'SIGSTOP');
  try {
    process.kill(pid, 'SIGKILL');
    const gone = { code: 'Conflict', message: `container ${id} is not running` };
    await expect(engine.terminals.startExec(exec, { detach: true })).rejects.toMatchObject(gone);
    const update = engine.control.update(id, { limits: { memoryBytes: 64 * 1024 * 1024, memorySwapBytes: -1 } });
    await expect(update).rejects.toMatchObject({ ...gone, message: `Cannot update container ${id}: ${gone.message}` });
  } finally {
    process.kill(conmon, 'SIGCONT');
  }
  await until(() => engine.containers.inspect(id).state === 'exited', 'its end is recorded');
  await remove(id);
});

test('sizes leave out what goes meanwhile', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-'));
  const there = join(directory, 'there');
  mkdirSync(there);
  writeFileSync(join(there, 'file'), 'four');
  expect(await engine.files.treeSizes([join(directory, 'gone'), there])).toEqual([0, 4]);
  rmSync(directory, { recursive: true });
});

test('whoever looks at files of a container that is removed meanwhile is told so', async () => {
  const words = /No such container|marked for removal|ends just now/;
  for (let round = 0; round < 2; round++) {
    const { id } = await engine.containers.create(config({ cmd: ['true'] }));
    await engine.containers.start(id);
    await engine.containers.wait(id, 'not-running', new AbortController().signal);
    const looks = [
      engine.files.stat(id, '/bin/sh'),
      engine.files.changes(id),
      engine.files.stat(id, '/bin/ls'),
      new Promise((resolve) => setTimeout(resolve, round * 30)).then(() => remove(id)),
    ];
    for (const look of await Promise.allSettled(looks)) {
      if (look.status === 'rejected') expect(String(look.reason)).toMatch(words);
    }
  }
});

test('a path with a null byte is refused in words', async () => {
  const bind = { type: 'bind', source: '/tmp/\0x', target: '/x', readOnly: false } as const;
  const words = 'must not contain a null byte';
  const asked = { code: 'InvalidArgument', message: expect.stringContaining(words) as string };
  await expect(engine.containers.create(config({ mounts: [bind] }))).rejects.toMatchObject(asked);
  const target = { ...bind, source: '/tmp', target: '/x\0y' };
  await expect(engine.containers.create(config({ mounts: [target] }))).rejects.toMatchObject(asked);
});
