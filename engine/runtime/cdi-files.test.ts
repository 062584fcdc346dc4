import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, expect, test } from 'vitest';
import { CdiFiles } from './cdi-files.ts';

const base = mkdtempSync(join(tmpdir(), 'shoal-cdi-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));
let directory = '';
beforeEach(() => (directory = mkdtempSync(join(base, 'd-'))));

const put = (name: string, text: string): void => writeFileSync(join(directory, name), text);

/** In the form that nvidia-ctk writes. */
const NVIDIA = `---
cdiVersion: 0.5.0
containerEdits:
  env:
  - NVIDIA_VISIBLE_DEVICES=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - update-ldcache
    - --folder
    - /usr/lib/x86_64-linux-gnu
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/bin/nvidia-smi
    hostPath: /usr/bin/nvidia-smi
    options:
    - ro
    - bind
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
      fileMode: 0666
  name: "0"
- name: 1
  containerEdits: &all
    deviceNodes:
    - path: /dev/nvidia1
- containerEdits:
    <<: *all
    env: [ALL=yes]
  name: all
kind: nvidia.com/gpu
`;

test('YAML as vendors write it: numbers, merge keys and aliases as go-yaml reads them', async () => {
  put('nvidia.yaml', NVIDIA);
  const { devices, problems } = await new CdiFiles([directory]).read();
  expect(problems).toEqual([]);
  expect([...devices.keys()]).toEqual(['nvidia.com/gpu=0', 'nvidia.com/gpu=1', 'nvidia.com/gpu=all']);
  expect(devices.get('nvidia.com/gpu=0')?.edits).toEqual({ deviceNodes: [{ path: '/dev/nvidia0', fileMode: 0o666 }] });
  expect(devices.get('nvidia.com/gpu=all')?.edits).toEqual({
    deviceNodes: [{ path: '/dev/nvidia1' }],
    env: ['ALL=yes'],
  });
  expect(devices.get('nvidia.com/gpu=0')?.spec.containerEdits).toMatchObject({
    env: ['NVIDIA_VISIBLE_DEVICES=void'],
    hooks: [{ hookName: 'createContainer', path: '/usr/bin/nvidia-cdi-hook' }],
    mounts: [{ hostPath: '/usr/bin/nvidia-smi', options: ['ro', 'bind'] }],
  });
});

test('damaged and hostile files are told of, and others are read', async () => {
  const bomb = ['a0: &a0 [x, x, x, x, x, x, x, x, x]'];
  for (let depth = 1; depth < 12; depth++) {
    bomb.push(
      `a${depth}: &a${depth} [${Array(9)
        .fill(`*a${depth - 1}`)
        .join(', ')}]`,
    );
  }
  put('bomb.yaml', bomb.join('\n'));
  put('deep.yaml', '['.repeat(100_000));
  put('long.yaml', `# ${'x'.repeat(128 * 1024)}\nkind: a.b/c\ndevices: []\n`);
  put('nameless.yaml', 'kind: a.b/c\ndevices: [{name: null}]\n');
  put('two.yaml', 'kind: a.b/c\nkind: a.b/d\ndevices: []\n');
  put('wide.yaml', Array.from({ length: 2000 }, (_, at) => `k${at}: 1`).join('\n'));
  put('list.yaml', '- '.repeat(1000));
  put('empty.yaml', '');
  put('bad.json', '{');
  put('bad.yaml', 'kind: a.b/c\ndevices: [x\n');
  put('other.yml', 'kind: a.b/c\ndevices: [{name: x}]\n');
  put('sound.yaml', 'kind: a.b/c\ndevices: [{name: x}]\n');
  const { devices, problems } = await new CdiFiles([directory]).read();
  expect([...devices.keys()]).toEqual(['a.b/c=x']);
  const words = problems.map((problem) => problem.slice(directory.length + 1).split('\n')[0]);
  expect(words).toEqual([
    expect.stringMatching(/^bad\.json: .*JSON/),
    expect.stringMatching(/^bad\.yaml: Flow sequence .* \(line 3, column 1\)$/),
    expect.stringMatching(/^bomb\.yaml: .*alias count/i),
    'deep.yaml: it is nested too deeply',
    'empty.yaml: it has no sound kind',
    'list.yaml: it is nested too deeply',
    'long.yaml: it has more than 131072 bytes',
    'nameless.yaml: devices must be a list of objects with names',
    'two.yaml: the key kind is there twice',
    'wide.yaml: it has no sound kind',
  ]);
});

test('a file is read again when it has changed, and forgotten when it is gone', async () => {
  const files = new CdiFiles([directory]);
  put('a.yaml', 'kind: a.b/c\ndevices: [{name: one}]\n');
  const first = await files.read();
  expect((await files.read()).devices.get('a.b/c=one')?.spec).toBe(first.devices.get('a.b/c=one')?.spec);
  put('a.yaml', 'kind: a.b/c\ndevices: [{name: other}]\n');
  expect([...(await files.read()).devices.keys()]).toEqual(['a.b/c=other']);
  rmSync(join(directory, 'a.yaml'));
  expect((await files.read()).devices.size).toBe(0);
});
