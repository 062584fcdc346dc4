import { invalidArgument, ShoalError, type Clock, type Logger, type Random } from '../../../base/index.ts';
import { chainIds } from '../../storage/index.ts';
import type { Image, RegistryAuth } from '../../types.ts';
import { referenceKey, type Catalogue } from '../catalogue.ts';
import type { Lease } from '../lease.ts';
import { DOCUMENT_MAX_BYTES, parseImageConfig, type ImageFacts } from '../image-config.ts';
import {
  choosePlatform,
  isIndexType,
  parseIndex,
  parseManifest,
  parsePlatform,
  platformText,
  type Descriptor,
  type Manifest,
  type Platform,
} from '../manifest.ts';
import { DEFAULT_REGISTRY, familiarName, familiarRepository, repositoryOf, type Reference } from '../reference.ts';
import { RepositoryClient, type Endpoint, type FetchedManifest, type KnownBases } from './client.ts';
import { downloadBlob } from './download.ts';
import { Limiter, SharedWork, type Report } from './shared.ts';
import type { Transport } from './transport.ts';
import { pullError } from './words.ts';

/** Layers of one pull that are fetched at the same time. */
export const LAYER_DOWNLOADS_MAX = 3;
/** Progress lines of one download are at least this far apart, ms. */
const PROGRESS_INTERVAL_MS = 100;
/** Where docker.io is. */
export const DOCKER_HUB = 'https://registry-1.docker.io';

export interface RegistryContext {
  catalogue: Catalogue;
  transport: Transport;
  bases: KnownBases;
  clock: Clock;
  random: Random;
  log: Logger;
  platform: Platform;
  mirrors: readonly string[];
  downloads: SharedWork<void>;
  /** One layer at a time is compressed for a push. */
  compressing: Limiter;
}

export function short(digest: string): string {
  return digest.slice('sha256:'.length, 'sha256:'.length + 12);
}

/** Where a reference may be read from: mirrors (without credentials) before docker.io itself. */
export function endpointsOf(
  context: RegistryContext,
  reference: Reference,
  auth: RegistryAuth | undefined,
): Endpoint[] {
  if (reference.registry !== DEFAULT_REGISTRY) return [{ address: reference.registry, auth }];
  return [...context.mirrors.map((address) => ({ address, auth: undefined })), { address: DOCKER_HUB, auth }];
}

export function clientFor(
  context: RegistryContext,
  reference: Reference,
  endpoint: Endpoint,
  signal: AbortSignal,
): RepositoryClient {
  const { transport, clock, bases } = context;
  return new RepositoryClient({ transport, clock, endpoint, path: reference.path, bases, signal });
}

/** One pull from one endpoint. */
class Pull {
  readonly #context: RegistryContext;
  readonly #client: RepositoryClient;
  readonly #reference: Reference;
  readonly #report: Report;
  /** One failed layer ends the downloads of the others. */
  readonly #failed = new AbortController();
  readonly #signal: AbortSignal;
  readonly #lease: Lease;
  readonly #address: string;

  constructor(
    context: RegistryContext,
    reference: Reference,
    endpoint: Endpoint,
    run: { report: Report; signal: AbortSignal; lease: Lease },
  ) {
    this.#context = context;
    this.#signal = AbortSignal.any([run.signal, this.#failed.signal]);
    this.#client = clientFor(context, reference, endpoint, this.#signal);
    this.#reference = reference;
    this.#address = endpoint.address;
    this.#report = (line) => {
      run.lease.renew();
      run.report(line);
    };
    this.#lease = run.lease;
  }

  async run(platform: Platform, explicit: boolean): Promise<Image> {
    const { catalogue } = this.#context;
    const reference = this.#reference;
    const top = await this.#client.manifest(reference.digest ?? reference.tag ?? 'latest');
    const manifest = await this.#manifestFor(top, platform);
    this.#report({
      status: `Pulling from ${reference.path}`,
      id: reference.digest ?? reference.tag ?? 'latest',
    });
    const { id, facts } = await this.#configuration(manifest);
    if (explicit && facts.architecture !== '' && facts.architecture !== platform.architecture) {
      throw new ShoalError(
        'NotFound',
        `image with reference ${familiarName(reference)} was found but its platform ` +
          `(${facts.os}/${facts.architecture}) ` +
          `does not match the specified platform (${platformText(platform)})`,
      );
    }
    await this.#layers(manifest, facts);
    const key = referenceKey(familiarName(reference));
    const digestKey = `${repositoryOf(reference)}@${top.digest}`;
    const current = catalogue.has(id) && catalogue.keysOf(id).includes(key);
    const image = await catalogue.register(id, [...new Set([key, digestKey])]);
    this.#report({ status: `Digest: ${top.digest}` });
    const name = familiarName(reference);
    const words = current ? 'Status: Image is up to date for' : 'Status: Downloaded newer image for';
    this.#report({ status: `${words} ${name}` });
    catalogue.event('pull', name, familiarRepository(repositoryOf(reference)));
    return image;
  }

  async #manifestFor(top: FetchedManifest, platform: Platform): Promise<Manifest> {
    let { bytes, mediaType } = top;
    // An index may point to an index; deeper nesting is no image.
    for (let depth = 0; depth < 2 && isIndexType(mediaType); depth++) {
      const chosen = choosePlatform(parseIndex(bytes), platform);
      ({ bytes, mediaType } = await this.#client.manifest(chosen.digest));
    }
    return parseManifest(bytes);
  }

  async #fetch(descriptor: Descriptor, report: Report): Promise<void> {
    const { content } = this.#context.catalogue;
    if (content.has(descriptor.digest)) return;
    // Another pull of the same repository, for the same user or not, may be fetching it: the bytes are the same.
    const key = `${this.#address} ${descriptor.digest}`;
    await this.#context.downloads.run(key, { signal: this.#signal, report }, async (emit, signal) => {
      let lastMs = -Infinity;
      const { clock } = this.#context;
      const client = this.#client.withSignal(signal);
      await downloadBlob({ content, clock, random: this.#context.random }, client, descriptor, signal, {
        onBytes: (current) => {
          const now = clock.monotonic();
          if (now - lastMs < PROGRESS_INTERVAL_MS && current < descriptor.size) return;
          lastMs = now;
          const progressDetail = { current, total: descriptor.size };
          emit({ status: 'Downloading', progressDetail, id: short(descriptor.digest) });
        },
        onVerify: () => emit({ status: 'Verifying Checksum', progressDetail: {}, id: short(descriptor.digest) }),
      });
    });
  }

  async #configuration(manifest: Manifest): Promise<{ id: string; facts: ImageFacts }> {
    const { content } = this.#context.catalogue;
    const { config } = manifest;
    if (config.size > DOCUMENT_MAX_BYTES) throw invalidArgument('invalid manifest: the configuration is too large');
    this.#lease.blobs.add(config.digest);
    await this.#fetch(config, () => undefined);
    const facts = parseImageConfig(content.read(config.digest));
    if (facts.diffIds.length !== manifest.layers.length) {
      throw invalidArgument(
        `invalid image: its manifest has ${manifest.layers.length} layers, its configuration ${facts.diffIds.length}`,
      );
    }
    return { id: config.digest, facts };
  }

  async #layers(manifest: Manifest, facts: ImageFacts): Promise<void> {
    const { catalogue } = this.#context;
    const chain = chainIds(facts.diffIds);
    for (const key of chain) this.#lease.layers.add(key);
    const limiter = new Limiter(LAYER_DOWNLOADS_MAX);
    const wanted = manifest.layers.map((descriptor, i) => {
      const id = short(descriptor.digest);
      const there = catalogue.layers.get(chain[i] as string) !== undefined;
      this.#report(there ? { status: 'Already exists', progressDetail: {}, id } : { status: 'Pulling fs layer', id });
      return { descriptor, id, there };
    });
    const missing = wanted.filter(({ there }) => !there);
    for (const { id } of missing.slice(LAYER_DOWNLOADS_MAX)) this.#report({ status: 'Waiting', id });
    const fetched = wanted.map(async ({ descriptor, id, there }) => {
      if (there) return;
      this.#lease.blobs.add(descriptor.digest);
      await limiter.run(() => this.#fetch(descriptor, this.#report));
      this.#report({ status: 'Download complete', progressDetail: {}, id });
    });
    // Every download is awaited below, but one may fail before its turn.
    for (const promise of fetched) promise.catch(() => undefined);
    try {
      for (const [i, { descriptor, id, there }] of wanted.entries()) {
        if (there) continue;
        await fetched[i];
        this.#report({ status: 'Extracting', id, progressDetail: { current: 0, total: descriptor.size } });
        await catalogue.layers.add({
          parent: chain[i - 1] ?? '',
          diffId: facts.diffIds[i] as string,
          blobPath: catalogue.content.path(descriptor.digest),
          blob: { digest: descriptor.digest, sizeBytes: descriptor.size },
        });
        this.#report({ status: 'Pull complete', progressDetail: {}, id });
      }
    } catch (error) {
      this.#failed.abort(new ShoalError('Aborted', 'another layer of the image failed'));
      await Promise.allSettled(fetched);
      throw error;
    }
  }
}

/** Pulls a reference that has a tag or a digest. @throws ShoalError in Docker's words. */
export async function pullImage(
  context: RegistryContext,
  reference: Reference,
  options: { auth?: RegistryAuth; platform?: string; report: Report; signal: AbortSignal },
): Promise<Image> {
  const explicit = options.platform !== undefined && options.platform !== '';
  const platform = explicit ? parsePlatform(options.platform as string, context.platform) : context.platform;
  const endpoints = endpointsOf(context, reference, options.auth);
  const { catalogue } = context;
  const lease = catalogue.lease();
  const { signal } = options;
  try {
    for (const [i, endpoint] of endpoints.entries()) {
      try {
        return await new Pull(context, reference, endpoint, { report: options.report, signal, lease }).run(
          platform,
          explicit,
        );
      } catch (error) {
        if (signal.aborted || i === endpoints.length - 1) throw error;
        context.log.warn('a mirror could not serve an image', { mirror: endpoint.address, error });
      }
    }
    throw new ShoalError('Internal', 'no endpoint to pull from');
  } catch (error) {
    throw pullError(error, familiarName(reference), familiarRepository(repositoryOf(reference)));
  } finally {
    catalogue.release(lease);
    await catalogue.collect().catch((error: unknown) => context.log.error('cannot tidy the image store', { error }));
    catalogue.discardBlobs(lease.blobs);
  }
}
