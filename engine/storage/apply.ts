import { createHash } from 'node:crypto';
import { lstatSync, mkdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import {
  invalidArgument,
  makeWhiteoutDevice,
  runChecked,
  setExtendedAttribute,
  type Spawner,
} from '../../base/index.ts';
import { decompress } from './compression.ts';
import { checkRoom, spaceError } from './limits.ts';
import { TarScanner, type TarMember } from './tar-scan.ts';

/** Time one layer may take to unpack, ms. */
const EXTRACT_TIMEOUT_MS = 30 * 60_000;

/** Prefix of whiteout names in layer archives (OCI image specification, layer.md). */
const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Names that a layer may hide, and all of their bytes: they are kept in memory. */
const WHITEOUTS_MAX = 1_000_000;
const WHITEOUTS_MAX_BYTES = 64 * 1024 ** 2;
/** The kernel takes no longer names (PATH_MAX with its closing zero). */
const NAME_MAX_BYTES = 4095;
/** What a file takes at the least on a disk. */
const FILE_MIN_BYTES = 256;

/** What a layer hides of the layers below: paths relative to the root, without leading slash. */
export interface Whiteouts {
  removed: string[];
  /** Directories whose lower content is hidden as a whole. */
  opaque: string[];
}

export interface AppliedLayer {
  /** sha256:… of the uncompressed archive. */
  diffId: string;
  /** Bytes of file content. */
  sizeBytes: number;
  whiteouts: Whiteouts;
}

/** A member name as clean relative components. @throws ShoalError InvalidArgument for names that climb out. */
function components(name: string): string[] {
  if (name.length > NAME_MAX_BYTES) {
    const start = JSON.stringify(name.slice(0, 40));
    throw invalidArgument(`refused layer: the path ${start}… has ${name.length} characters: file name too long`);
  }
  const parts = name.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..')) throw invalidArgument(`refused layer: the path ${JSON.stringify(name)} climbs out of it`);
  return parts;
}

class LayerScan {
  readonly whiteouts: Whiteouts = { removed: [], opaque: [] };
  sizeBytes = 0;
  /** What it takes on the disk, about. */
  diskBytes = 0;
  #whiteouts = 0;
  #whiteoutBytes = 0;

  #hide(list: string[], path: string): void {
    this.#whiteoutBytes += path.length;
    if (++this.#whiteouts > WHITEOUTS_MAX || this.#whiteoutBytes > WHITEOUTS_MAX_BYTES) {
      throw invalidArgument(`refused layer: it hides more than ${WHITEOUTS_MAX} files, or names too long`);
    }
    list.push(path);
  }

  member(member: TarMember): void {
    const parts = components(member.name);
    if (member.type === '1') components(member.linkName);
    this.sizeBytes += member.size;
    this.diskBytes += member.size + FILE_MIN_BYTES;
    const base = parts.pop() ?? '';
    if (base === OPAQUE) this.#hide(this.whiteouts.opaque, parts.join('/'));
    // Other ".wh..wh." names are bookkeeping of aufs and hide nothing.
    else if (base.startsWith(WHITEOUT) && !base.startsWith('.wh..wh.')) {
      const hidden = base.slice(WHITEOUT.length);
      if (hidden === '' || hidden === '.' || hidden === '..') throw invalidArgument('refused layer: an empty whiteout');
      this.#hide(this.whiteouts.removed, [...parts, hidden].join('/'));
    }
  }
}

/** Unpacks a plain tar file into an existing empty directory with owners, modes, times, devices and attributes. */
export async function extractTar(spawner: Spawner, tarPath: string, target: string): Promise<void> {
  await runChecked(spawner, {
    file: 'tar',
    args: [
      '--extract',
      '--file=-',
      `--directory=${target}`,
      '--numeric-owner',
      '--same-owner',
      '--same-permissions',
      '--xattrs',
      '--xattrs-include=*',
      // A foreign layer must not speak to overlayfs.
      '--xattrs-exclude=trusted.overlay.*',
      '--exclude=.wh.*',
      '--delay-directory-restore',
      '--warning=no-timestamp',
      '--warning=no-unknown-keyword',
    ],
    env: { PATH: process.env['PATH'] ?? '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' },
    stdinFile: tarPath,
    timeoutMs: EXTRACT_TIMEOUT_MS,
  });
}

/** Makes the directory `path` inside `root`, following no symbolic link. @throws ShoalError InvalidArgument */
function directoryInside(root: string, path: string): string {
  let at = root;
  for (const part of path.split('/').filter((p) => p !== '')) {
    at = join(at, part);
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found === undefined) mkdirSync(at, 0o755);
    else if (!found.isDirectory()) throw invalidArgument(`refused layer: /${path} is not a directory in it`);
  }
  return at;
}

/** Marks in an unpacked layer what it hides, in overlayfs' own terms (kernel: filesystems/overlayfs). */
export function markWhiteouts(target: string, whiteouts: Whiteouts): void {
  for (const path of whiteouts.opaque) {
    setExtendedAttribute(directoryInside(target, path), 'trusted.overlay.opaque', 'y');
  }
  for (const path of whiteouts.removed) {
    const parent = dirname(path);
    const at = join(directoryInside(target, parent === '.' ? '' : parent), path.slice(path.lastIndexOf('/') + 1));
    // The layer may hold the name as well: then the file is new, and hides the lower one by itself.
    const found = lstatSync(at, { throwIfNoEntry: false });
    if (found === undefined) makeWhiteoutDevice(at);
    else if (found.isDirectory()) setExtendedAttribute(at, 'trusted.overlay.opaque', 'y');
  }
}

/**
 * Unpacks a layer blob (plain, gzip, zstd, xz or bzip2) into the empty directory `target`, checking its diff id first.
 * `scratch` names a file that may be used for the uncompressed archive; it is gone afterwards.
 * @throws ShoalError InvalidArgument for a damaged or hostile archive, and for a digest that does not match;
 *   ResourceExhausted when it would fill the disk.
 */
export async function applyLayer(options: {
  spawner: Spawner;
  blobPath: string;
  scratch: string;
  target: string;
  expectedDiffId?: string;
  /** Whether to mark whiteouts for overlayfs. */
  markers: boolean;
}): Promise<AppliedLayer> {
  const hash = createHash('sha256');
  const scan = new LayerScan();
  const scanner = new TarScanner((member) => scan.member(member));
  try {
    const tar = await decompress(options.spawner, options.blobPath, options.scratch, (chunk) => {
      hash.update(chunk);
      scanner.push(chunk);
    });
    scanner.finish();
    const diffId = `sha256:${hash.digest('hex')}`;
    if (options.expectedDiffId !== undefined && diffId !== options.expectedDiffId) {
      throw invalidArgument(
        `layers from manifest don't match image configuration: ${diffId} is not ${options.expectedDiffId}`,
      );
    }
    checkRoom(options.target, scan.diskBytes, 'the layer');
    await extractTar(options.spawner, tar.path, options.target).catch((error: unknown) => {
      throw spaceError(error, 'the layer', options.target);
    });
    if (options.markers) markWhiteouts(options.target, scan.whiteouts);
    return { diffId, sizeBytes: scan.sizeBytes, whiteouts: scan.whiteouts };
  } finally {
    rmSync(options.scratch, { force: true });
  }
}
