import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const BUSYBOX = '/bin/busybox';

/** Makes a small root file system from the host's static busybox in a directory. */
export function makeBusyboxRoot(root: string): void {
  for (const path of ['bin', 'dev', 'etc', 'home', 'proc', 'root', 'run', 'sbin', 'sys', 'usr/bin', 'var/log']) {
    mkdirSync(join(root, path), { recursive: true, mode: 0o755 });
  }
  mkdirSync(join(root, 'tmp'));
  // mkdir's mode is cut by the umask.
  chmodSync(join(root, 'tmp'), 0o1777);
  chmodSync(join(root, 'root'), 0o700);
  copyFileSync(BUSYBOX, join(root, 'bin/busybox'));
  chmodSync(join(root, 'bin/busybox'), 0o755);
  const applets = execFileSync(BUSYBOX, ['--list'], { encoding: 'utf8' }).split('\n');
  for (const applet of applets)
    if (applet !== '' && applet !== 'busybox') symlinkSync('busybox', join(root, 'bin', applet));
  writeFileSync(
    join(root, 'etc/passwd'),
    'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n',
  );
  writeFileSync(join(root, 'etc/group'), 'root:x:0:\nnogroup:x:65534:\n');
  writeFileSync(join(root, 'etc/nsswitch.conf'), 'hosts: files dns\n');
}

/** Writes a root file system archive with busybox and its applets to `path`, for `importArchive`. */
export function makeBusyboxArchive(path: string): void {
  const root = mkdtempSync(join(tmpdir(), 'shoal-busybox-'));
  try {
    makeBusyboxRoot(root);
    chmodSync(root, 0o755);
    execFileSync('tar', [
      '--create',
      `--file=${path}`,
      '--numeric-owner',
      '--owner=0',
      '--group=0',
      `--directory=${root}`,
      '.',
    ]);
  } finally {
    rmSync(root, { recursive: true, force: true });
  }
}
