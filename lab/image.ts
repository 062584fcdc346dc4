import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { directSpawner, runChecked, ShoalError } from '../base/index.ts';

/** Debian's busybox-static. */
const BUSYBOX = '/bin/busybox';

/**
 * Writes the archive of a root file system with busybox and links for all its programs: what `docker import` takes, for
 * machines that can reach no registry.
 * @param files more files: path in the root → content
 */
export async function writeBusyboxArchive(path: string, files: Readonly<Record<string, string>> = {}): Promise<void> {
  if (!existsSync(BUSYBOX)) {
    throw new ShoalError('FailedPrecondition', `${BUSYBOX} is missing: install the package busybox-static`);
  }
  const root = mkdtempSync(join(tmpdir(), 'shoal-busybox-'));
  try {
    for (const dir of ['bin', 'etc', 'proc', 'sys', 'dev', 'root', 'tmp', 'var/www']) {
      mkdirSync(join(root, dir), { recursive: true });
    }
    chmodSync(join(root, 'tmp'), 0o1777);
    copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
    const list = await runChecked(directSpawner, { file: BUSYBOX, args: ['--list'] });
    for (const name of list.split('\n').filter((line) => line !== '' && line !== 'busybox')) {
      symlinkSync('busybox', join(root, 'bin', name));
    }
    const all = {
      'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n',
      'etc/group': 'root:x:0:\nnogroup:x:65534:\n',
      ...files,
    };
    for (const [name, content] of Object.entries(all)) {
      mkdirSync(dirname(join(root, name)), { recursive: true });
      writeFileSync(join(root, name), content);
    }
    await runChecked(directSpawner, { file: 'tar', args: ['-C', root, '-cf', path, '.'] });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}

/** What an image of `writeBusyboxImage` is like. */
export interface BusyboxImage {
  /** Repository and tag. */
  name: string;
  /** The container configuration of the image specification. */
  config?: Readonly<Record<string, unknown>>;
  /** Who made it, in the history. */
  createdBy: string;
  /** More files: path in the root → content. */
  files?: Readonly<Record<string, string>>;
}

/**
 * Writes a busybox image in the form of `docker save` (image specification 1.2: manifest.json, configuration, layer),
 * so that every host that loads it has it under the same id.
 */
export async function writeBusyboxImage(path: string, { name, config, createdBy, files }: BusyboxImage): Promise<void> {
  const root = `${path}.d`;
  const layer = join(root, 'layer', 'layer.tar');
  mkdirSync(join(root, 'layer'), { recursive: true });
  await writeBusyboxArchive(layer, files);
  const diffId = createHash('sha256').update(readFileSync(layer)).digest('hex');
  const created = '2020-01-01T00:00:00Z';
  const text = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    created,
    config: { Cmd: ['/bin/sh'], Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'], ...config },
    rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] },
    history: [{ created, created_by: createdBy }],
  });
  const configName = `${createHash('sha256').update(text).digest('hex')}.json`;
  writeFileSync(join(root, configName), text);
  const manifest = [{ Config: configName, RepoTags: [name], Layers: ['layer/layer.tar'] }];
  writeFileSync(join(root, 'manifest.json'), JSON.stringify(manifest));
  const args = ['-C', root, '-cf', path, 'manifest.json', configName, 'layer'];
  await runChecked(directSpawner, { file: 'tar', args });
  rmSync(root, { recursive: true, force: true });
}
