import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { mount, silentLogger, unmount } from '../../base/index.ts';
import type { Container, ContainerState } from '../types.ts';
import { config } from './fixture.ts';
import { ContainerStore, type StoredContainer } from './store.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-records-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

let count = 0;
const fresh = (): string => join(base, `root-${++count}`);
const ID = 'a'.repeat(64);

function record(state: ContainerState): StoredContainer {
  const container = { id: ID, config: config({ name: 'c' }), state } as Container;
  return { container, mounts: [], manuallyStopped: false };
}

async function stateOf(root: string): Promise<string | undefined> {
  return (await new ContainerStore(root, silentLogger).load())[0]?.container.state;
}

test('the latest state counts, unless it is torn; then the last durable one', async () => {
  const root = fresh();
  const store = new ContainerStore(root, silentLogger);
  await store.load();
  await store.makeDirectory(ID);
  await store.write(record('created'), true);
  await store.writeState(record('running'));
  expect(await stateOf(root)).toBe('running');
  const state = join(root, ID, 'state.json');
  const whole = readFileSync(state, 'utf8');
  for (let length = 0; length < whole.length; length += 37) {
    writeFileSync(state, whole.slice(0, length));
    expect(await stateOf(root)).toBe('created');
  }
  writeFileSync(state, whole);
  // A crash between the durable write and the removal of the older state.
  await store.write(record('exited'), false);
  expect(existsSync(state)).toBe(false);
  writeFileSync(state, whole);
  expect(await stateOf(root)).toBe('exited');
  // The numbers go on after a restart.
  const next = new ContainerStore(root, silentLogger);
  await next.load();
  await next.writeState(record('running'));
  expect(await stateOf(root)).toBe('running');
});

test('a crash at any step of the first write leaves no container, at any later step the former one', async () => {
  const root = fresh();
  const store = new ContainerStore(root, silentLogger);
  await store.load();
  const directory = join(root, ID);
  mkdirSync(directory);
  writeFileSync(join(directory, 'container.json.new'), '{"half');
  expect(await stateOf(root)).toBeUndefined();
  expect(existsSync(directory)).toBe(false);
  await store.makeDirectory(ID);
  await store.write(record('created'), true);
  for (const name of ['container.json.new', 'state.json.new']) writeFileSync(join(directory, name), '{"half');
  expect(await stateOf(root)).toBe('created');
  await store.write(record('exited'), false);
  expect(await stateOf(root)).toBe('exited');
});

test('a file whose bytes never came to the disk is no container, and one that is damaged is not touched', async () => {
  const root = fresh();
  await new ContainerStore(root, silentLogger).load();
  for (const [text, kept] of [
    ['', false],
    ['\0'.repeat(4096), false],
    ['{"version":1', true],
  ] as const) {
    mkdirSync(join(root, ID));
    writeFileSync(join(root, ID, 'container.json'), text);
    const next = new ContainerStore(root, silentLogger);
    expect(await next.load()).toEqual([]);
    expect(existsSync(join(root, ID))).toBe(kept);
    expect(next.unreadable.has(ID)).toBe(kept);
  }
});

test('what is being removed is no container any more, and can be ended', async () => {
  const root = fresh();
  const store = new ContainerStore(root, silentLogger);
  await store.load();
  await store.makeDirectory(ID);
  await store.write(record('exited'), true);
  await store.retire(ID, true);
  await store.retire(ID, true);
  expect(await stateOf(root)).toBeUndefined();
  expect(await store.retired()).toMatchObject([{ id: ID, volumes: true, stored: { container: { id: ID } } }]);
  rmSync(join(root, `${ID}.removed-volumes`, 'container.json'));
  expect(await store.retired()).toEqual([{ id: ID, volumes: true, stored: undefined }]);
  await store.erase(ID);
  expect(await store.retired()).toEqual([]);
});

test('a full disk is told by name, and leaves the former record', async () => {
  const root = fresh();
  mkdirSync(root);
  mount('tmpfs', root, 'tmpfs', 0, 'size=64k');
  try {
    const store = new ContainerStore(root, silentLogger);
    await store.load();
    await store.makeDirectory(ID);
    await store.write(record('created'), true);
    expect(() => writeFileSync(join(root, 'filler'), Buffer.alloc(2 ** 20))).toThrow('ENOSPC');
    const words = 'no space left on device: the record of container aaaaaaaaaaaa does not fit below';
    await expect(store.write(record('exited'), false)).rejects.toThrow(words);
    await expect(store.writeState(record('exited'))).rejects.toThrow(words);
    expect(await stateOf(root)).toBe('created');
    await store.retire(ID, false);
    expect(await stateOf(root)).toBeUndefined();
  } finally {
    unmount(root);
  }
});
