import { ShoalError } from '../../../base/index.ts';
import type { RegistryAuth } from '../../types.ts';
import { RepositoryClient } from './client.ts';
import { DOCKER_HUB, type RegistryContext } from './pull.ts';
import { RegistryRefusal } from './words.ts';

/** A registry that does not answer in this time is told as such, ms. */
const LOGIN_TIMEOUT_MS = 15_000;
const HUB_NAMES = ['', 'docker.io', 'index.docker.io', 'registry-1.docker.io'];

/** Host with port of what a user logs in to: an address, or the URL of a registry. */
function hostOf(serverAddress: string): string {
  const host = serverAddress.replace(/^https?:\/\//, '').split('/')[0] ?? '';
  return HUB_NAMES.includes(host) ? DOCKER_HUB : host;
}

/**
 * Asks a registry whether credentials are good.
 * @throws ShoalError Unauthenticated when they are not; Unavailable, DeadlineExceeded when the registry does not answer
 */
export async function login(
  context: RegistryContext,
  serverAddress: string,
  auth: RegistryAuth,
  signal: AbortSignal,
): Promise<void> {
  const { transport, clock, bases } = context;
  const address = hostOf(serverAddress);
  const limit = new AbortController();
  const words = `registry ${address} did not answer in ${LOGIN_TIMEOUT_MS} ms`;
  const timer = clock.after(LOGIN_TIMEOUT_MS, () => limit.abort(new ShoalError('DeadlineExceeded', words)));
  try {
    const both = AbortSignal.any([signal, limit.signal]);
    const endpoint = { address, auth };
    await new RepositoryClient({ transport, clock, endpoint, path: '', bases, signal: both }).ping();
  } catch (error) {
    if (!(error instanceof RegistryRefusal) || error.status !== 401) throw error;
    const url = `${bases.get(address)?.base.origin ?? address}/v2/`;
    throw new ShoalError('Unauthenticated', `login attempt to ${url} failed with status: 401 Unauthorized`);
  } finally {
    timer.cancel();
  }
}
