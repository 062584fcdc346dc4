import { linkSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { runChecked } from '../../base/index.ts';
import { detectCompression } from '../storage/index.ts';
import type { ArchiveContext } from './archives.ts';
import { familiarKey, type Catalogue } from './catalogue.ts';
import { sha256 } from './content.ts';
import { isDigest, parseReference, repositoryOf } from './reference.ts';
import { buildManifest, MEDIA, type BuiltLayer } from './manifest.ts';

const PACK_TIMEOUT_MS = 30 * 60_000;

interface SavedImage {
  id: string;
  /** Reference keys. */
  keys: string[];
}

/** A name without a tag means all tags of the repository. */
function withAllTags(catalogue: Catalogue, text: string): string[] {
  if (/^[a-f0-9]{64}$/.test(text) || isDigest(text)) return [text];
  const reference = parseReference(text);
  if (reference.tag !== undefined || reference.digest !== undefined) return [text];
  const keys = catalogue.keysIn(repositoryOf(reference)).filter((key) => !key.includes('@'));
  return keys.length === 0 ? [text] : keys.map(familiarKey);
}

/** The file `repositories` of older clients: repository → tag → id of the top layer. */
function repositories(catalogue: Catalogue, images: readonly SavedImage[]): object {
  const found: Record<string, Record<string, string>> = {};
  for (const { id, keys } of images) {
    const top = catalogue.layersOf(id).at(-1)?.blob.digest ?? id;
    for (const key of keys) {
      const name = familiarKey(key);
      const colon = name.lastIndexOf(':');
      (found[name.slice(0, colon)] ??= {})[name.slice(colon + 1)] = top.slice('sha256:'.length);
    }
  }
  return found;
}

/** What to save: a name is saved under that name, an id without names. */
function chosen(catalogue: Catalogue, references: readonly string[]): SavedImage[] {
  const images = new Map<string, SavedImage>();
  for (const text of references.flatMap((one) => withAllTags(catalogue, one))) {
    const { id, key } = catalogue.resolve(text);
    const image = images.get(id) ?? { id, keys: [] };
    if (key !== undefined && !key.includes('@') && !image.keys.includes(key)) image.keys.push(key);
    images.set(id, image);
  }
  return [...images.values()];
}

function blobName(digest: string): string {
  return `blobs/sha256/${digest.slice('sha256:'.length)}`;
}

/** Lays out one image in `root`; returns its entries for manifest.json and index.json. */
async function stage(
  catalogue: Catalogue,
  root: string,
  image: SavedImage,
): Promise<{ docker: object; oci: object[] }> {
  const { content } = catalogue;
  const place = (digest: string): void => {
    try {
      linkSync(content.path(digest), join(root, blobName(digest)));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  };
  place(image.id);
  const layers: BuiltLayer[] = [];
  for (const { blob } of catalogue.layersOf(image.id)) {
    place(blob.digest);
    layers.push({ ...blob, compression: await detectCompression(content.path(blob.digest)) });
  }
  const { mediaType, bytes } = buildManifest({ digest: image.id, size: content.size(image.id) }, layers);
  writeFileSync(join(root, blobName(sha256(bytes))), bytes);
  const descriptor = { mediaType, digest: sha256(bytes), size: bytes.length };
  const names = image.keys.map((key) => ({
    'io.containerd.image.name': key,
    'org.opencontainers.image.ref.name': key.slice(key.lastIndexOf(':') + 1),
  }));
  return {
    docker: {
      Config: blobName(image.id),
      RepoTags: image.keys.length === 0 ? null : image.keys.map(familiarKey),
      Layers: layers.map(({ digest }) => blobName(digest)),
    },
    oci: names.length === 0 ? [descriptor] : names.map((annotations) => ({ ...descriptor, annotations })),
  };
}

/** Writes images to an archive. @throws ShoalError NotFound for a reference that is not here. */
export async function saveArchive(
  { catalogue, spawner }: ArchiveContext,
  references: readonly string[],
  destinationPath: string,
): Promise<void> {
  const images = chosen(catalogue, references);
  const lease = catalogue.lease();
  for (const { id } of images) {
    lease.blobs.add(id);
    for (const layer of catalogue.layersOf(id)) lease.layers.add(layer.chainId);
  }
  const root = catalogue.content.temporaryPath();
  try {
    mkdirSync(join(root, 'blobs/sha256'), { recursive: true, mode: 0o755 });
    const staged = [];
    for (const image of images) staged.push(await stage(catalogue, root, image));
    writeFileSync(join(root, 'manifest.json'), JSON.stringify(staged.map(({ docker }) => docker)));
    const named = images.some(({ keys }) => keys.length > 0);
    if (named) writeFileSync(join(root, 'repositories'), JSON.stringify(repositories(catalogue, images)));
    const index = { schemaVersion: 2, mediaType: MEDIA.ociIndex, manifests: staged.flatMap(({ oci }) => oci) };
    writeFileSync(join(root, 'index.json'), JSON.stringify(index));
    writeFileSync(join(root, 'oci-layout'), JSON.stringify({ imageLayoutVersion: '1.0.0' }));
    await runChecked(spawner, {
      file: 'tar',
      args: [
        '--create',
        '--file=-',
        '--numeric-owner',
        '--owner=0',
        '--group=0',
        '--hard-dereference',
        `--directory=${root}`,
        'oci-layout',
        'index.json',
        'manifest.json',
        ...(named ? ['repositories'] : []),
        'blobs',
      ],
      stdoutFile: destinationPath,
      timeoutMs: PACK_TIMEOUT_MS,
    });
  } finally {
    rmSync(root, { recursive: true, force: true });
    catalogue.release(lease);
    await catalogue.collect();
    catalogue.discardBlobs(lease.blobs);
  }
}
