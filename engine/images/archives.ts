import { lstatSync, mkdirSync, readFileSync, realpathSync, rmSync, statSync } from 'node:fs';
import { join, sep } from 'node:path';
import { invalidArgument, runChecked, type Clock, type Logger, type Spawner } from '../../base/index.ts';
import { chainIds, checkRoom, decompress, spaceError } from '../storage/index.ts';
import type { Image, ImageProgress } from '../types.ts';
import type { Catalogue } from './catalogue.ts';
import type { Lease } from './lease.ts';
import { familiarKey, referenceKey } from './catalogue.ts';
import { applyChanges } from './changes.ts';
import { sha256 } from './content.ts';
import { DOCUMENT_MAX_BYTES, hostArchitecture, isObject, parseImageConfig, textOf } from './image-config.ts';
import { choosePlatform, isIndexType, parseIndex, parseManifest, type Platform } from './manifest.ts';
import { isDigest, repositoryOf, taggedReference } from './reference.ts';

/** Time an archive may take to unpack, ms. */
const UNPACK_TIMEOUT_MS = 30 * 60_000;
/** Images in one archive at the most. */
const ARCHIVE_IMAGES_MAX = 1000;

export interface ArchiveContext {
  catalogue: Catalogue;
  spawner: Spawner;
  clock: Clock;
  log: Logger;
  platform: Platform;
}

/** A file inside an unpacked archive. Links may be followed inside it only. */
function member(root: string, path: string): string {
  const refused = invalidArgument(`invalid image archive: ${JSON.stringify(path)} is missing or not a file in it`);
  if (path === '' || path.includes('\0')) throw refused;
  let real: string;
  try {
    real = realpathSync(join(root, path));
  } catch {
    throw refused;
  }
  if (!real.startsWith(realpathSync(root) + sep) || !lstatSync(real).isFile()) throw refused;
  return real;
}

function document(root: string, path: string): Buffer {
  const at = member(root, path);
  if (statSync(at).size > DOCUMENT_MAX_BYTES) throw invalidArgument(`invalid image archive: ${path} is too large`);
  return readFileSync(at);
}

function hasMember(root: string, path: string): boolean {
  return lstatSync(join(root, path), { throwIfNoEntry: false })?.isFile() === true;
}

async function unpack(context: ArchiveContext, archivePath: string): Promise<string> {
  const temporary = context.catalogue.content.temporaryPath();
  const root = join(temporary, 'archive');
  mkdirSync(root, { recursive: true, mode: 0o700 });
  try {
    const tar = await decompress(context.spawner, archivePath, join(temporary, 'plain.tar'), () => undefined);
    checkRoom(root, statSync(tar.path).size, 'the image archive');
    await runChecked(context.spawner, {
      file: 'tar',
      args: ['--extract', '--file=-', `--directory=${root}`, '--no-same-owner', '--no-same-permissions'],
      stdinFile: tar.path,
      timeoutMs: UNPACK_TIMEOUT_MS,
    });
    rmSync(join(temporary, 'plain.tar'), { force: true });
    return temporary;
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw spaceError(error, 'the image archive', context.catalogue.directory);
  }
}

/** One image of an archive: bytes of its configuration, files of its layers, and its names. */
interface ArchiveImage {
  config: Buffer;
  layers: { path: string; digest?: string }[];
  keys: string[];
}

function dockerImages(root: string): ArchiveImage[] {
  let list: unknown;
  try {
    list = JSON.parse(document(root, 'manifest.json').toString('utf8'));
  } catch {
    throw invalidArgument('invalid image archive: manifest.json is not JSON');
  }
  if (!Array.isArray(list) || list.length > ARCHIVE_IMAGES_MAX) throw invalidArgument('invalid manifest.json');
  return list.filter(isObject).map((item) => {
    const layers = Array.isArray(item['Layers']) ? item['Layers'] : [];
    const tags = Array.isArray(item['RepoTags']) ? item['RepoTags'] : [];
    return {
      config: document(root, textOf(item['Config'])),
      layers: layers.map((path) => ({ path: member(root, textOf(path)) })),
      keys: tags.map((tag) => referenceKey(textOf(tag))),
    };
  });
}

function ociBlob(root: string, digest: string): Buffer {
  if (!isDigest(digest)) throw invalidArgument(`invalid image archive: bad digest ${JSON.stringify(digest)}`);
  const bytes = document(root, `blobs/sha256/${digest.slice('sha256:'.length)}`);
  if (sha256(bytes) !== digest)
    throw invalidArgument(`invalid image archive: blob ${digest} does not match its digest`);
  return bytes;
}

/** The full name of an image in an OCI layout; a bare tag names nothing and is left out. */
function ociKeys(annotations: Readonly<Record<string, string>>): string[] {
  const name = annotations['io.containerd.image.name'] ?? annotations['org.opencontainers.image.ref.name'] ?? '';
  return /[/:]/.test(name) ? [referenceKey(name)] : [];
}

function ociImages(context: ArchiveContext, root: string): ArchiveImage[] {
  const index = parseIndex(document(root, 'index.json'));
  if (index.length > ARCHIVE_IMAGES_MAX) throw invalidArgument('invalid image archive: too many images');
  return index.map((descriptor) => {
    let bytes = ociBlob(root, descriptor.digest);
    if (isIndexType(descriptor.mediaType)) {
      const chosen = choosePlatform(parseIndex(bytes), context.platform);
      bytes = ociBlob(root, chosen.digest);
    }
    const manifest = parseManifest(bytes);
    return {
      config: ociBlob(root, manifest.config.digest),
      layers: manifest.layers.map(({ digest }) => {
        if (!isDigest(digest)) throw invalidArgument(`invalid image archive: bad digest ${JSON.stringify(digest)}`);
        return { path: member(root, `blobs/sha256/${digest.slice('sha256:'.length)}`), digest };
      }),
      keys: ociKeys(descriptor.annotations),
    };
  });
}

async function addImage(
  context: ArchiveContext,
  lease: Lease,
  image: ArchiveImage,
  report: (p: ImageProgress) => void,
): Promise<string> {
  const { catalogue } = context;
  const facts = parseImageConfig(image.config);
  if (facts.diffIds.length !== image.layers.length) {
    throw invalidArgument(
      `invalid manifest, layers length mismatch: expected ${image.layers.length}, got ${facts.diffIds.length}`,
    );
  }
  const id = sha256(image.config);
  lease.blobs.add(id);
  const chain = chainIds(facts.diffIds);
  for (const [i, diffId] of facts.diffIds.entries()) {
    const [key, file] = [chain[i] as string, image.layers[i] as { path: string; digest?: string }];
    lease.layers.add(key);
    if (catalogue.layers.get(key) !== undefined) continue;
    const total = statSync(file.path).size;
    const short = diffId.slice('sha256:'.length, 'sha256:'.length + 12);
    report({ status: 'Loading layer', id: short, progressDetail: { current: 0, total } });
    const blob = await catalogue.content.copyIn(file.path, (digest) => lease.blobs.add(digest));
    if (file.digest !== undefined && file.digest !== blob.digest) {
      throw invalidArgument(`invalid image archive: blob ${file.digest} does not match its digest`);
    }
    const blobPath = catalogue.content.path(blob.digest);
    await catalogue.layers.add({ parent: chain[i - 1] ?? '', diffId, blobPath, blob });
    report({ status: 'Loading layer', id: short, progressDetail: { current: total, total } });
  }
  catalogue.content.put(image.config);
  await catalogue.register(id, image.keys);
  return id;
}

/** `docker load`. @throws ShoalError InvalidArgument for what is no image archive; nothing is kept of it then. */
export async function loadArchive(
  context: ArchiveContext,
  archivePath: string,
  report: (p: ImageProgress) => void,
): Promise<void> {
  const { catalogue } = context;
  const lease = catalogue.lease();
  let temporary: string | undefined;
  try {
    temporary = await unpack(context, archivePath);
    const root = join(temporary, 'archive');
    const docker = hasMember(root, 'manifest.json');
    if (!docker && !hasMember(root, 'index.json')) {
      throw invalidArgument('invalid archive: does not contain a manifest.json');
    }
    for (const image of docker ? dockerImages(root) : ociImages(context, root)) {
      const id = await addImage(context, lease, image, report);
      catalogue.event('load', id, id);
      for (const key of image.keys) report({ stream: `Loaded image: ${familiarKey(key)}\n` });
      if (image.keys.length === 0) report({ stream: `Loaded image ID: ${id}\n` });
    }
  } finally {
    await finish(context, lease, temporary);
  }
}

async function finish(context: ArchiveContext, lease: Lease, temporary: string | undefined): Promise<void> {
  if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
  context.catalogue.release(lease);
  await context.catalogue.collect();
  context.catalogue.discardBlobs(lease.blobs);
}

/** `docker import`: a root file system archive becomes an image of one layer. */
export async function importRootArchive(
  context: ArchiveContext,
  archivePath: string,
  options: { repository: string; tag: string; message: string; changes: readonly string[] },
): Promise<Image> {
  const { catalogue, clock } = context;
  const config = applyChanges({}, options.changes);
  const target = options.repository === '' ? undefined : taggedReference(options.repository, options.tag);
  const lease = catalogue.lease();
  try {
    const blob = await catalogue.content.copyIn(archivePath, (digest) => lease.blobs.add(digest));
    const blobPath = catalogue.content.path(blob.digest);
    const claim = (chainId: string): void => void lease.layers.add(chainId);
    const layer = await catalogue.layers.add({ parent: '', blobPath, blob, claim });
    const created = new Date(clock.now()).toISOString();
    const bytes = Buffer.from(
      JSON.stringify({
        architecture: context.platform.architecture,
        ...(context.platform.variant === undefined ? {} : { variant: context.platform.variant }),
        os: 'linux',
        created,
        comment: options.message,
        config,
        history: [{ created, comment: options.message }],
        rootfs: { type: 'layers', diff_ids: [layer.diffId] },
      }),
    );
    const id = catalogue.content.put(bytes);
    lease.blobs.add(id);
    const keys = target === undefined ? [] : [`${repositoryOf(target)}:${target.tag}`];
    const image = await catalogue.register(id, keys);
    catalogue.event('import', id, id);
    return image;
  } finally {
    await finish(context, lease, undefined);
  }
}

/** This machine's platform. */
export function hostPlatform(): Platform {
  const architecture = hostArchitecture();
  return { os: 'linux', architecture, ...(architecture === 'arm64' ? { variant: 'v8' } : {}) };
}
