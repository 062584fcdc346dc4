import { createReadStream, createWriteStream, rmSync } from 'node:fs';
import { Transform, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { must, notFound, type Spawner } from '../../../base/index.ts';
import { decompress, detectCompression, type Compression, type Layer } from '../../storage/index.ts';
import type { RegistryAuth } from '../../types.ts';
import { referenceKey, type Catalogue } from '../catalogue.ts';
import { buildManifest, type BuiltLayer } from '../manifest.ts';
import { DEFAULT_REGISTRY, familiarName, familiarRepository, repositoryOf, type Reference } from '../reference.ts';
import { RepositoryClient } from './client.ts';
import { clientFor, short, type RegistryContext } from './pull.ts';
import { Limiter, type Report } from './shared.ts';

/** Layers of one push that are sent at the same time. */
const LAYER_UPLOADS_MAX = 3;
const UPLOAD_ATTEMPTS_MAX = 3;
const PROGRESS_INTERVAL_MS = 100;
const DOCKER_HUB = 'https://registry-1.docker.io';

/**
 * The layer's archive in a form registries take (gzip or zstd). One that came plain (load, import) is compressed once,
 * and the compressed archive replaces it in the store, so that its digest stays.
 */
export async function portableBlob(
  catalogue: Catalogue,
  spawner: Spawner,
  chainId: string,
): Promise<{ layer: Layer; compression: Compression }> {
  const layer = must(catalogue.layers.get(chainId), `layer ${chainId}`);
  const { content } = catalogue;
  const path = content.path(layer.blob.digest);
  const compression = await detectCompression(path);
  if (compression === 'gzip' || compression === 'zstd') return { layer, compression };
  const lease = catalogue.lease();
  const scratch = content.temporaryPath();
  const packed = content.temporaryPath();
  try {
    lease.blobs.add(layer.blob.digest);
    const plain = await decompress(spawner, path, scratch, () => undefined);
    await pipeline(createReadStream(plain.path), createGzip(), createWriteStream(packed, { mode: 0o600 }));
    const blob = await content.copyIn(packed, (digest) => lease.blobs.add(digest));
    await catalogue.replaceBlob(layer.blob.digest, blob);
    return { layer: { ...layer, blob }, compression: 'gzip' };
  } finally {
    for (const leftover of [scratch, packed]) rmSync(leftover, { force: true });
    catalogue.release(lease);
    catalogue.discardBlobs(lease.blobs);
  }
}

class Push {
  readonly #context: RegistryContext & { spawner: Spawner };
  readonly #client: RepositoryClient;
  readonly #reference: Reference;
  readonly #report: Report;
  readonly #signal: AbortSignal;

  constructor(
    context: RegistryContext & { spawner: Spawner },
    reference: Reference,
    options: { auth?: RegistryAuth; report: Report; signal: AbortSignal },
  ) {
    this.#context = context;
    this.#reference = reference;
    this.#report = options.report;
    this.#signal = options.signal;
    const address = reference.registry === DEFAULT_REGISTRY ? DOCKER_HUB : reference.registry;
    this.#client = clientFor(context, reference, { address, auth: options.auth }, options.signal);
  }

  async run(imageId: string): Promise<void> {
    const { catalogue, spawner, compressing } = this.#context;
    const repository = repositoryOf(this.#reference);
    const tag = this.#reference.tag ?? 'latest';
    this.#report({ status: `The push refers to repository [${repository}]` });
    const layers = catalogue.layersOf(imageId);
    for (const layer of [...layers].reverse()) this.#line('Preparing', layer);
    const limiter = new Limiter(LAYER_UPLOADS_MAX);
    for (const layer of layers.slice(LAYER_UPLOADS_MAX)) this.#line('Waiting', layer);
    const sent = await Promise.allSettled(
      layers.map((layer) =>
        limiter.run(async (): Promise<BuiltLayer> => {
          this.#signal.throwIfAborted();
          const portable = await compressing.run(() => portableBlob(catalogue, spawner, layer.chainId));
          await this.#layer(portable.layer);
          return { ...portable.layer.blob, compression: portable.compression };
        }),
      ),
    );
    const built = sent.map((result) => {
      if (result.status === 'rejected') throw result.reason as Error;
      return result.value;
    });
    const config = catalogue.content.read(imageId);
    if (!(await this.#client.hasBlob(imageId))) {
      await this.#upload(imageId, config.length, () => createReadStream(catalogue.content.path(imageId)));
    }
    const { mediaType, bytes } = buildManifest({ digest: imageId, size: config.length }, built);
    const digest = await this.#client.putManifest(tag, mediaType, bytes);
    await catalogue.register(imageId, [`${repository}@${digest}`]);
    this.#report({ status: `${tag}: digest: ${digest} size: ${bytes.length}` });
    this.#report({ progressDetail: {}, aux: { Tag: tag, Digest: digest, Size: bytes.length } });
    catalogue.event('push', familiarName(this.#reference), familiarRepository(repository));
  }

  #line(status: string, layer: Layer): void {
    this.#report({ status, progressDetail: {}, id: short(layer.diffId) });
  }

  async #layer(layer: Layer): Promise<void> {
    const { catalogue, clock } = this.#context;
    const { digest, sizeBytes } = layer.blob;
    if (await this.#client.hasBlob(digest)) {
      this.#line('Layer already exists', layer);
      return;
    }
    let lastMs = -Infinity;
    const open = (): Readable => {
      let current = 0;
      const counted = new Transform({
        transform: (chunk: Buffer, _encoding, done) => {
          current += chunk.length;
          const now = clock.monotonic();
          if (now - lastMs >= PROGRESS_INTERVAL_MS || current === sizeBytes) {
            lastMs = now;
            this.#report({ status: 'Pushing', progressDetail: { current, total: sizeBytes }, id: short(layer.diffId) });
          }
          done(null, chunk);
        },
      });
      const source = createReadStream(catalogue.content.path(digest));
      source.on('error', (error) => counted.destroy(error));
      counted.on('close', () => source.destroy());
      return source.pipe(counted);
    };
    const from = this.#siblingWith(digest);
    const mounted = await this.#upload(digest, sizeBytes, open, from);
    this.#line(mounted === undefined ? 'Pushed' : `Mounted from ${mounted}`, layer);
  }

  /** Another repository of the same registry that was seen to have the blob. */
  #siblingWith(digest: string): string | undefined {
    const prefix = `${this.#reference.registry}/`;
    return this.#context.catalogue
      .repositoriesWith(digest)
      .filter((repository) => repository.startsWith(prefix))
      .map((repository) => repository.slice(prefix.length))
      .find((path) => path !== this.#reference.path);
  }

  async #upload(digest: string, size: number, open: () => Readable, from?: string): Promise<string | undefined> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#client.uploadBlob(digest, size, open, from);
      } catch (error) {
        const broken = (error as { code?: string }).code === 'Unavailable';
        if (!broken || this.#signal.aborted || attempt >= UPLOAD_ATTEMPTS_MAX) throw error;
      }
    }
  }
}

/** Pushes the image a tag names. @throws ShoalError NotFound when there is no such tag here. */
export async function pushImage(
  context: RegistryContext & { spawner: Spawner },
  reference: Reference,
  options: { auth?: RegistryAuth; report: Report; signal: AbortSignal },
): Promise<void> {
  const { catalogue } = context;
  const { id, key } = ((): { id?: string; key?: string } => {
    try {
      return catalogue.resolve(familiarName(reference));
    } catch {
      return {};
    }
  })();
  if (id === undefined || key !== referenceKey(familiarName(reference)) || reference.digest !== undefined) {
    throw notFound(`An image does not exist locally with the tag: ${familiarRepository(repositoryOf(reference))}`);
  }
  const lease = catalogue.lease();
  try {
    lease.blobs.add(id);
    for (const layer of catalogue.layersOf(id)) lease.layers.add(layer.chainId);
    await new Push(context, reference, options).run(id);
  } finally {
    catalogue.release(lease);
    await catalogue.collect().catch((error: unknown) => context.log.error('cannot tidy the image store', { error }));
    catalogue.discardBlobs(lease.blobs);
  }
}
