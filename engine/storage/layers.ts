import { createHash } from 'node:crypto';
import { join } from 'node:path';

/** Layers of one image at the most (Docker's limit too). */
export const LAYERS_MAX = 125;

/** The archive a layer came from; kept, so that a push sends the same bytes. */
export interface LayerBlob {
  digest: string;
  sizeBytes: number;
}

/** An unpacked layer. */
export interface Layer {
  chainId: string;
  diffId: string;
  /** Chain id of the layer below; empty for the lowest. */
  parent: string;
  /** Short name in `l/`. */
  link: string;
  sizeBytes: number;
  blob: LayerBlob;
}

/** Identity of a layer together with all layers below it (OCI image specification, config.md). */
export function chainId(parent: string, diffId: string): string {
  if (parent === '') return diffId;
  return `sha256:${createHash('sha256').update(`${parent} ${diffId}`).digest('hex')}`;
}

/** The chain ids of a list of diff ids, lowest first. */
export function chainIds(diffIds: readonly string[]): string[] {
  const chain: string[] = [];
  for (const diffId of diffIds) chain.push(chainId(chain.at(-1) ?? '', diffId));
  return chain;
}

const SHORT_ID_LENGTH = 32;

export function shortId(id: string): string {
  return id.slice('sha256:'.length, 'sha256:'.length + SHORT_ID_LENGTH);
}

/** Directory of a layer below the directory of layers. */
export function layerDirectory(directory: string, id: string): string {
  return join(directory, shortId(id));
}

/** The symbolic link that is a layer's short name. */
export function layerLink(directory: string, link: string): string {
  return join(directory, 'l', link);
}

/** Where that link leads. */
export function linkTarget(id: string): string {
  return join('..', shortId(id), 'diff');
}
