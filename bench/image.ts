import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { directSpawner, runChecked } from '../base/index.ts';
import { writeBusyboxArchive } from '../lab/index.ts';

/** What the image is called on every host. */
export const IMAGE_NAME = 'shoal-bench:1';

/**
 * Writes a busybox image in the form of `docker save` (image specification 1.2: manifest.json, configuration, layer),
 * so that every host that loads it has it under the same id.
 */
export async function writeImage(path: string): Promise<void> {
  const root = `${path}.d`;
  mkdirSync(join(root, 'layer'), { recursive: true });
  await writeBusyboxArchive(`${path}.layer`);
  renameSync(`${path}.layer`, join(root, 'layer', 'layer.tar'));
  const diffId = createHash('sha256')
    .update(readFileSync(join(root, 'layer', 'layer.tar')))
    .digest('hex');
  const config = JSON.stringify({
    architecture: process.arch === 'arm64' ? 'arm64' : 'amd64',
    os: 'linux',
    created: '2020-01-01T00:00:00Z',
    config: { Cmd: ['/bin/sh'], Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] },
    rootfs: { type: 'layers', diff_ids: [`sha256:${diffId}`] },
    history: [{ created: '2020-01-01T00:00:00Z', created_by: 'shoal bench' }],
  });
  const configName = `${createHash('sha256').update(config).digest('hex')}.json`;
  writeFileSync(join(root, configName), config);
  const manifest = [{ Config: configName, RepoTags: [IMAGE_NAME], Layers: ['layer/layer.tar'] }];
  writeFileSync(join(root, 'manifest.json'), JSON.stringify(manifest));
  await runChecked(directSpawner, {
    file: 'tar',
    args: ['-C', root, '-cf', path, 'manifest.json', configName, 'layer'],
  });
}
