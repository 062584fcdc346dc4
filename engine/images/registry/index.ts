import type { Clock, Logger, Random, Spawner } from '../../../base/index.ts';
import type { Image, Images } from '../../types.ts';
import type { Catalogue } from '../catalogue.ts';
import type { Platform } from '../manifest.ts';
import { familiarName, parseReference, withDefaultTag } from '../reference.ts';
import { describeRemote } from './distribution.ts';
import { login } from './login.ts';
import { pullImage, type RegistryContext } from './pull.ts';
import { pushImage } from './push.ts';
import { searchRegistry } from './search.ts';
import { Limiter, SharedWork } from './shared.ts';
import { Transport } from './transport.ts';

/** Which registries are trusted without TLS, and which stand in for docker.io. */
export interface RegistryRules {
  insecure: readonly string[];
  mirrors: readonly string[];
}

export type Registry = Pick<Images, 'pull' | 'push' | 'distribution' | 'search' | 'login'> & {
  /** Others from now on. */
  setRules(rules: RegistryRules): void;
  close(): void;
};

/** The registry side of the image store. Equal pulls that run at once are one pull. */
export function openRegistry(options: {
  catalogue: Catalogue;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  platform: Platform;
  registries: RegistryRules;
}): Registry {
  const transport = new Transport(options.clock, options.registries.insecure);
  const context: RegistryContext & { spawner: Spawner } = {
    ...options,
    transport,
    bases: new Map(),
    mirrors: options.registries.mirrors,
    downloads: new SharedWork<void>(),
    compressing: new Limiter(1),
  };
  const pulls = new SharedWork<Image>();
  return {
    async pull(text, { auth, platform, report, signal }) {
      const reference = withDefaultTag(parseReference(text));
      const key = JSON.stringify([familiarName(reference), platform ?? '', auth ?? null]);
      const caller = { signal, report: report ?? (() => undefined) };
      const request = { ...(auth === undefined ? {} : { auth }), ...(platform === undefined ? {} : { platform }) };
      return await pulls.run(key, caller, (emit, shared) =>
        pullImage(context, reference, { ...request, report: emit, signal: shared }),
      );
    },
    async push(text, request) {
      await pushImage(context, withDefaultTag(parseReference(text)), request);
    },
    async distribution(text, auth, signal) {
      return await describeRemote(context, withDefaultTag(parseReference(text)), auth, signal);
    },
    search: (term, limit, auth, signal) => searchRegistry(context, { term, limit, auth, signal }),
    login: (serverAddress, auth, signal) => login(context, serverAddress, auth, signal),
    setRules({ insecure, mirrors }) {
      transport.setInsecure(insecure);
      context.mirrors = mirrors;
      context.bases.clear();
    },
    close: () => transport.close(),
  };
}
