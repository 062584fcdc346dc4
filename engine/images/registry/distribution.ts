import { ShoalError } from '../../../base/index.ts';
import type { Distribution, RegistryAuth } from '../../types.ts';
import { isObject, parseJson, textOf } from '../image-config.ts';
import { isIndexType, parseIndex, parseManifest } from '../manifest.ts';
import { familiarName, familiarRepository, repositoryOf, type Reference } from '../reference.ts';
import { clientFor, endpointsOf, type RegistryContext } from './pull.ts';
import type { RepositoryClient } from './client.ts';
import { readBody } from './transport.ts';
import { pullError } from './words.ts';

/** The question is asked while a user waits for `service create`; it ends after this time, ms. */
export const DISTRIBUTION_TIMEOUT_MS = 10_000;

async function describe(client: RepositoryClient, reference: Reference): Promise<Distribution> {
  const top = await client.manifest(reference.digest ?? reference.tag ?? 'latest');
  const described = { digest: top.digest, size: top.bytes.length };
  if (isIndexType(top.mediaType)) {
    const platforms = parseIndex(top.bytes)
      .map(({ platform }) => platform)
      // Attestations are listed with an unknown platform; nothing can run them.
      .filter((platform) => platform !== undefined && platform.os !== 'unknown' && platform.os !== '');
    return { ...described, mediaType: top.mediaType, platforms: platforms.filter((p) => p !== undefined) };
  }
  const manifest = parseManifest(top.bytes);
  const config = parseJson(await readBody(await client.blob(manifest.config.digest, 0)), 'the image configuration');
  const variant = isObject(config) ? textOf(config['variant']) : '';
  const platform = { architecture: textOf(config['architecture']), os: textOf(config['os']) || 'linux' };
  const platforms = [variant === '' ? platform : { ...platform, variant }];
  return { ...described, mediaType: top.mediaType || manifest.mediaType, platforms };
}

/** Digest and platforms of a reference in its registry. @throws ShoalError, soon when the registry does not answer. */
export async function describeRemote(
  context: RegistryContext,
  reference: Reference,
  auth: RegistryAuth | undefined,
  signal: AbortSignal,
): Promise<Distribution> {
  const limit = new AbortController();
  const expired = new ShoalError(
    'DeadlineExceeded',
    `${reference.registry} did not answer in ${DISTRIBUTION_TIMEOUT_MS} ms`,
  );
  const timer = context.clock.after(DISTRIBUTION_TIMEOUT_MS, () => limit.abort(expired));
  const both = AbortSignal.any([signal, limit.signal]);
  const endpoints = endpointsOf(context, reference, auth);
  try {
    for (const [i, endpoint] of endpoints.entries()) {
      try {
        return await describe(clientFor(context, reference, endpoint, both), reference);
      } catch (error) {
        if (both.aborted || i === endpoints.length - 1) throw error;
      }
    }
    throw new ShoalError('Internal', 'no endpoint to ask');
  } catch (error) {
    throw pullError(error, familiarName(reference), familiarRepository(repositoryOf(reference)));
  } finally {
    timer.cancel();
  }
}
