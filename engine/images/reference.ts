import { invalidArgument } from '../../base/index.ts';

/** The registry that a name without a host means, and the name space of a name without a slash. */
export const DEFAULT_REGISTRY = 'docker.io';
const OFFICIAL = 'library';
const NAME_MAX_LENGTH = 255;

const COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/;
const LABEL = '[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?';
const HOST = new RegExp(`^(?:${LABEL}(?:\\.${LABEL})*|\\[[a-fA-F0-9:]+\\])(?::[0-9]+)?$`);
/** Longest text that is looked at: a name, a tag and a digest. */
const TEXT_MAX_LENGTH = 512;
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const DIGEST = /^sha256:[a-f0-9]{64}$/;

/** A name of an image in a registry, complete. */
export interface Reference {
  /** Host and port; `docker.io` for the default. */
  registry: string;
  /** Path in the registry, as `library/busybox`. */
  path: string;
  tag?: string;
  /** sha256:… */
  digest?: string;
}

export function isDigest(text: string): boolean {
  return DIGEST.test(text);
}

function splitHost(name: string): [registry: string, path: string] {
  const slash = name.indexOf('/');
  const first = slash === -1 ? '' : name.slice(0, slash);
  const isHost = /[.:]/.test(first) || first === 'localhost' || first.toLowerCase() !== first;
  const [registry, path] = slash === -1 || !isHost ? [DEFAULT_REGISTRY, name] : [first, name.slice(slash + 1)];
  const own = registry === 'index.docker.io' ? DEFAULT_REGISTRY : registry;
  return [own, own === DEFAULT_REGISTRY && !path.includes('/') ? `${OFFICIAL}/${path}` : path];
}

/**
 * Parses a name as users write it, with Docker's defaults for host and name space (grammar: distribution/reference).
 * No tag is added. @throws ShoalError InvalidArgument in Docker's words.
 */
export function parseReference(text: string): Reference {
  if (text.length > TEXT_MAX_LENGTH) throw invalidArgument('invalid reference format');
  if (/^[a-f0-9]{64}$/.test(text)) {
    throw invalidArgument(`invalid repository name (${text}), cannot specify 64-byte hexadecimal strings`);
  }
  const at = text.indexOf('@');
  const digest = at === -1 ? undefined : text.slice(at + 1);
  let name = at === -1 ? text : text.slice(0, at);
  const colon = name.indexOf(':', name.lastIndexOf('/') + 1);
  const tag = colon === -1 ? undefined : name.slice(colon + 1);
  if (colon !== -1) name = name.slice(0, colon);
  const [registry, path] = splitHost(name);
  const wellFormed =
    name !== '' &&
    (digest === undefined || DIGEST.test(digest)) &&
    (tag === undefined || TAG.test(tag)) &&
    HOST.test(registry);
  if (!wellFormed) throw invalidArgument('invalid reference format');
  if (!path.split('/').every((part) => COMPONENT.test(part))) {
    const lower = path.toLowerCase();
    if (lower !== path && lower.split('/').every((part) => COMPONENT.test(part))) {
      throw invalidArgument(`invalid reference format: repository name (${path}) must be lowercase`);
    }
    throw invalidArgument('invalid reference format');
  }
  if (registry.length + 1 + path.length > NAME_MAX_LENGTH) {
    throw invalidArgument(`repository name must not be more than ${NAME_MAX_LENGTH} characters`);
  }
  return { registry, path, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) };
}

/** With the tag `latest` when neither tag nor digest is given. */
export function withDefaultTag(reference: Reference): Reference {
  return reference.tag === undefined && reference.digest === undefined ? { ...reference, tag: 'latest' } : reference;
}

/** `registry/path`. */
export function repositoryOf(reference: Reference): string {
  return `${reference.registry}/${reference.path}`;
}

/** The name as Docker shows it: without `docker.io/` and `library/`. */
export function familiarRepository(repository: string): string {
  if (!repository.startsWith(`${DEFAULT_REGISTRY}/`)) return repository;
  const path = repository.slice(DEFAULT_REGISTRY.length + 1);
  const own = path.startsWith(`${OFFICIAL}/`) ? path.slice(OFFICIAL.length + 1) : path;
  // "library/a/b" must keep its first part, or it would not parse back to itself.
  return own.includes('/') ? path : own;
}

/** The whole reference as Docker shows it. */
export function familiarName(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`;
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`;
  return `${familiarRepository(repositoryOf(reference))}${tag}${digest}`;
}

/** Checks a repository and a tag given apart (`docker tag`, `docker import`). */
export function taggedReference(repository: string, tag: string): Reference & { tag: string } {
  const reference = parseReference(repository);
  if (reference.digest !== undefined) throw invalidArgument('refusing to create a tag with a digest reference');
  const chosen = tag === '' ? (reference.tag ?? 'latest') : tag;
  if (!TAG.test(chosen)) throw invalidArgument('invalid tag format');
  return { registry: reference.registry, path: reference.path, tag: chosen };
}
