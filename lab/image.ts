import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
    for (const [name, content] of Object.entries(all)) writeFileSync(join(root, name), content);
    await runChecked(directSpawner, { file: 'tar', args: ['-C', root, '-cf', path, '.'] });
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
