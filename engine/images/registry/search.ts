import { invalidArgument, ShoalError } from '../../../base/index.ts';
import type { FoundImage, RegistryAuth } from '../../types.ts';
import { isObject, parseJson, textOf } from '../image-config.ts';
import { RepositoryClient } from './client.ts';
import type { RegistryContext } from './pull.ts';
import { readBody } from './transport.ts';

/** Where the default registry answers searches. */
const DEFAULT_INDEX = 'index.docker.io';
/** Time a search may take, ms: a user waits for it. */
const SEARCH_TIMEOUT_MS = 20_000;
const LIMIT_DEFAULT = 25;
const LIMIT_MAX = 100;

interface SearchRequest {
  term: string;
  limit: number;
  auth: RegistryAuth | undefined;
  signal: AbortSignal;
}

/** `host[:port]/words` asks that registry, plain words the default one. */
function split(term: string): { address: string; words: string } {
  const slash = term.indexOf('/');
  const first = slash === -1 ? '' : term.slice(0, slash);
  if (!/[.:]/.test(first) && first !== 'localhost') return { address: DEFAULT_INDEX, words: term };
  return { address: first === 'docker.io' ? DEFAULT_INDEX : first, words: term.slice(slash + 1) };
}

/** Images that a registry knows for a word, by the search of the v1 API that indexes still answer. */
export async function searchRegistry(context: RegistryContext, request: SearchRequest): Promise<FoundImage[]> {
  const { term, auth } = request;
  const limit = request.limit === 0 ? LIMIT_DEFAULT : request.limit;
  if (term === '') throw invalidArgument('invalid search term: it is empty');
  if (limit < 1 || limit > LIMIT_MAX) {
    throw invalidArgument(`limit ${limit} is outside the range of [1, ${LIMIT_MAX}]`);
  }
  const { address, words } = split(term);
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(SEARCH_TIMEOUT_MS)]);
  const { transport, clock, bases } = context;
  const client = new RepositoryClient({ transport, clock, bases, path: '', endpoint: { address, auth }, signal });
  let response;
  try {
    response = await client.search(words, limit);
  } catch (error) {
    if (request.signal.aborted || !signal.aborted) throw error;
    throw new ShoalError('Unavailable', `the registry ${address} does not answer: cannot search for ${words} there`);
  }
  if (response.status !== 200) {
    response.body.resume();
    const why = response.status === 404 ? 'it has no search' : `it answers with status ${response.status}`;
    throw new ShoalError('Unimplemented', `the registry ${address} cannot be searched: ${why}`);
  }
  const results = parseJson(await readBody(response), 'the answer of the registry')['results'];
  return (Array.isArray(results) ? results : []).filter(isObject).map((found) => ({
    name: textOf(found['name']),
    description: textOf(found['description']),
    stars: typeof found['star_count'] === 'number' ? found['star_count'] : 0,
    official: found['is_official'] === true,
    automated: found['is_automated'] === true,
  }));
}
