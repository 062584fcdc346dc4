import { createHash } from 'node:crypto';
import { createWriteStream, rmSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { LayerBlob } from '../storage/index.ts';
import type { CommitRequest, Image } from '../types.ts';
import type { ArchiveContext } from './archives.ts';
import type { Catalogue } from './catalogue.ts';
import { parseJson } from './image-config.ts';
import type { Lease } from './lease.ts';
import { familiarName, repositoryOf, taggedReference } from './reference.ts';

/** Diff id of an archive without members: such a layer is not kept. */
const EMPTY_DIFF_ID = `sha256:${createHash('sha256').update(Buffer.alloc(1024)).digest('hex')}`;

/** Stores an archive as a blob while it comes. */
async function storeBlob({ content }: Catalogue, archive: AsyncIterable<Uint8Array>, lease: Lease): Promise<LayerBlob> {
  const path = content.temporaryPath();
  const hash = createHash('sha256');
  let sizeBytes = 0;
  async function* hashed(): AsyncGenerator<Uint8Array> {
    for await (const chunk of archive) {
      hash.update(chunk);
      sizeBytes += chunk.length;
      lease.renew();
      yield chunk;
    }
  }
  try {
    await pipeline(hashed, createWriteStream(path, { flags: 'wx', mode: 0o600 }));
    const digest = `sha256:${hash.digest('hex')}`;
    lease.blobs.add(digest);
    if (!content.has(digest)) await content.adopt(path, digest);
    return { digest, sizeBytes };
  } finally {
    rmSync(path, { force: true });
  }
}

/** `docker commit`: a layer over an image becomes an image, with a line more in its history. */
export async function commitLayer(
  context: ArchiveContext,
  archive: AsyncIterable<Uint8Array>,
  request: CommitRequest,
): Promise<Image> {
  const { catalogue, clock } = context;
  const { author, comment, config } = request;
  const target = request.repository === '' ? undefined : taggedReference(request.repository, request.tag);
  const parent = catalogue.byId(request.parentId);
  const lease = catalogue.lease();
  try {
    const below = catalogue.layersOf(parent.id);
    for (const { chainId, blob } of below) {
      lease.layers.add(chainId);
      lease.blobs.add(blob.digest);
    }
    const diffIds = [...parent.diffIds];
    const blob = await storeBlob(catalogue, archive, lease);
    const empty = blob.digest === EMPTY_DIFF_ID;
    if (!empty) {
      const blobPath = catalogue.content.path(blob.digest);
      const claim = (chainId: string): void => void lease.layers.add(chainId);
      const layer = await catalogue.layers.add({ parent: below.at(-1)?.chainId ?? '', blobPath, blob, claim });
      diffIds.push(layer.diffId);
    }
    const created = new Date(clock.now()).toISOString();
    const line = { created, created_by: request.createdBy, author, comment, ...(empty ? { empty_layer: true } : {}) };
    // What the parent says beyond what is known here stays: its history has fields of its own.
    const former = parseJson(catalogue.content.read(parent.id), 'the image configuration');
    const history: unknown[] = Array.isArray(former['history']) ? former['history'] : [];
    const id = catalogue.content.put(
      Buffer.from(
        JSON.stringify({
          architecture: parent.architecture || context.platform.architecture,
          ...(parent.variant === '' ? {} : { variant: parent.variant }),
          ...{ os: 'linux', created, author, comment, config },
          history: [...history, line],
          rootfs: { type: 'layers', diff_ids: diffIds },
        }),
      ),
    );
    lease.blobs.add(id);
    const keys = target === undefined ? [] : [`${repositoryOf(target)}:${target.tag}`];
    const image = await catalogue.register(id, keys, parent.id);
    if (target !== undefined) catalogue.event('tag', id, familiarName(target));
    return image;
  } finally {
    catalogue.release(lease);
    await catalogue.collect();
    catalogue.discardBlobs(lease.blobs);
  }
}
