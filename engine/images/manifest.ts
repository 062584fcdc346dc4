import { invalidArgument, notFound } from '../../base/index.ts';
import type { Compression } from '../storage/index.ts';
import { isObject, parseJson, textOf } from './image-config.ts';
import { isDigest } from './reference.ts';

/** Media types of the OCI image specification and of Docker's schema 2. */
export const MEDIA = {
  dockerManifest: 'application/vnd.docker.distribution.manifest.v2+json',
  dockerIndex: 'application/vnd.docker.distribution.manifest.list.v2+json',
  dockerConfig: 'application/vnd.docker.container.image.v1+json',
  dockerLayer: 'application/vnd.docker.image.rootfs.diff.tar.gzip',
  dockerSchema1: 'application/vnd.docker.distribution.manifest.v1+prettyjws',
  ociManifest: 'application/vnd.oci.image.manifest.v1+json',
  ociIndex: 'application/vnd.oci.image.index.v1+json',
  ociConfig: 'application/vnd.oci.image.config.v1+json',
  ociLayer: 'application/vnd.oci.image.layer.v1.tar',
  ociLayerGzip: 'application/vnd.oci.image.layer.v1.tar+gzip',
  ociLayerZstd: 'application/vnd.oci.image.layer.v1.tar+zstd',
} as const;

export interface Platform {
  os: string;
  architecture: string;
  variant?: string;
}

export interface Descriptor {
  mediaType: string;
  digest: string;
  size: number;
  platform?: Platform;
  annotations: Record<string, string>;
}

export interface Manifest {
  mediaType: string;
  config: Descriptor;
  layers: Descriptor[];
}

/** Entries of one index at the most. */
const INDEX_ENTRIES_MAX = 10_000;

export function isIndexType(mediaType: string): boolean {
  return mediaType === MEDIA.ociIndex || mediaType === MEDIA.dockerIndex;
}

function platformOf(value: unknown): Platform | undefined {
  if (!isObject(value)) return undefined;
  const variant = textOf(value['variant']);
  const platform = { os: textOf(value['os']), architecture: textOf(value['architecture']) };
  return variant === '' ? platform : { ...platform, variant };
}

function descriptorOf(value: unknown): Descriptor {
  const digest = isObject(value) ? textOf(value['digest']) : '';
  const size = isObject(value) ? value['size'] : undefined;
  if (!isObject(value) || !isDigest(digest) || typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) {
    throw invalidArgument('invalid manifest: a descriptor has no sha256 digest or no size');
  }
  const annotations = isObject(value['annotations']) ? value['annotations'] : {};
  const platform = platformOf(value['platform']);
  return {
    mediaType: textOf(value['mediaType']),
    digest,
    size,
    ...(platform === undefined ? {} : { platform }),
    annotations: Object.fromEntries(
      Object.entries(annotations).filter((entry): entry is [string, string] => typeof entry[1] === 'string'),
    ),
  };
}

/** Reads an image index or a manifest list. @throws ShoalError InvalidArgument */
export function parseIndex(bytes: Uint8Array): Descriptor[] {
  const manifests = parseJson(bytes, 'the image index')['manifests'];
  if (!Array.isArray(manifests) || manifests.length > INDEX_ENTRIES_MAX) {
    throw invalidArgument('invalid image index: no proper list of manifests');
  }
  return manifests.map(descriptorOf);
}

/** Reads an OCI or Docker schema 2 manifest. @throws ShoalError InvalidArgument */
export function parseManifest(bytes: Uint8Array): Manifest {
  const json = parseJson(bytes, 'the image manifest');
  if (json['schemaVersion'] !== 2) {
    throw invalidArgument('unsupported manifest: Docker image format v1 and schema 1 are not supported; push it again');
  }
  if (!Array.isArray(json['layers'])) throw invalidArgument('invalid manifest: no list of layers');
  const config = descriptorOf(json['config']);
  const mediaType = textOf(json['mediaType']) || MEDIA.ociManifest;
  return { mediaType, config, layers: json['layers'].map(descriptorOf) };
}

/** Parses `os[/architecture[/variant]]` of `--platform`. @throws ShoalError InvalidArgument */
export function parsePlatform(text: string, host: Platform): Platform {
  const parts = text.split('/');
  const [first, architecture, variant] = parts;
  if (parts.length > 3 || !parts.every((part) => /^[A-Za-z0-9_.-]+$/.test(part)) || first === undefined) {
    throw invalidArgument(`"${text}" is an invalid OS component: platform must be os[/architecture[/variant]]`);
  }
  if (architecture === undefined) {
    return first === 'linux' ? host : { os: 'linux', architecture: first };
  }
  const names: Readonly<Record<string, string>> = { x86_64: 'amd64', aarch64: 'arm64' };
  const arch = names[architecture] ?? architecture;
  return variant === undefined ? { os: first, architecture: arch } : { os: first, architecture: arch, variant };
}

export function platformText(platform: Platform): string {
  return [platform.os, platform.architecture, platform.variant ?? ''].filter((part) => part !== '').join('/');
}

/** The entry of an index for a platform; one with the same variant wins. @throws ShoalError NotFound */
export function choosePlatform(entries: readonly Descriptor[], wanted: Platform): Descriptor {
  const fits = entries.filter(
    ({ platform }) => platform?.os === wanted.os && platform.architecture === wanted.architecture,
  );
  const exact = fits.find(({ platform }) => platform?.variant === wanted.variant);
  const plain = fits.find(({ platform }) => platform?.variant === undefined);
  const chosen = exact ?? plain ?? (wanted.architecture === 'arm' ? undefined : fits[0]);
  if (chosen === undefined) {
    throw notFound(`no matching manifest for ${platformText(wanted)} in the manifest list entries`);
  }
  return chosen;
}

/** A layer of a manifest that is being made. */
export interface BuiltLayer {
  digest: string;
  sizeBytes: number;
  compression: Compression;
}

/** The manifest of an image: Docker's schema 2, or OCI's where a layer needs it (zstd, plain). */
export function buildManifest(
  config: { digest: string; size: number },
  layers: readonly BuiltLayer[],
): { mediaType: string; bytes: Buffer } {
  const docker = layers.every((layer) => layer.compression === 'gzip');
  const layerType = (compression: Compression): string => {
    if (docker) return MEDIA.dockerLayer;
    if (compression === 'zstd') return MEDIA.ociLayerZstd;
    return compression === 'gzip' ? MEDIA.ociLayerGzip : MEDIA.ociLayer;
  };
  const mediaType = docker ? MEDIA.dockerManifest : MEDIA.ociManifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: { mediaType: docker ? MEDIA.dockerConfig : MEDIA.ociConfig, size: config.size, digest: config.digest },
    layers: layers.map(({ digest, sizeBytes, compression }) => ({
      mediaType: layerType(compression),
      size: sizeBytes,
      digest,
    })),
  };
  return { mediaType, bytes: Buffer.from(JSON.stringify(manifest)) };
}
