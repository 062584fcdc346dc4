import { createReadStream, rmSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { invalidArgument, must } from '../../base/index.ts';
import { queryBool, saveBody } from '../body.ts';
import type { AuthFacts } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { progressStream, sendJson } from '../stream.ts';

/** Credentials of X-Registry-Auth: base64url of a JSON object. @throws ShoalError InvalidArgument */
export function authOf({ request }: Pick<RequestContext, 'request'>): AuthFacts | undefined {
  const header = request.headers['x-registry-auth'];
  if (typeof header !== 'string' || header === '') return undefined;
  let json: Record<string, unknown>;
  try {
    json = JSON.parse(Buffer.from(header, 'base64url').toString('utf8')) as Record<string, unknown>;
  } catch {
    throw invalidArgument('invalid X-Registry-Auth header: base64url of a JSON object is expected');
  }
  const text = (name: string): string | undefined => {
    const value = json[name];
    return typeof value === 'string' && value !== '' ? value : undefined;
  };
  const facts = {
    username: text('username'),
    password: text('password'),
    identityToken: text('identitytoken'),
    registryToken: text('registrytoken'),
  };
  const given = Object.entries(facts).filter(([, value]) => value !== undefined);
  return given.length === 0 ? undefined : (Object.fromEntries(given) as AuthFacts);
}

function reference(repository: string, tag: string): string {
  if (tag === '') return repository;
  return tag.includes(':') ? `${repository}@${tag}` : `${repository}:${tag}`;
}

async function pull(context: RequestContext, repository: string): Promise<void> {
  const { query, ports, signal } = context;
  const auth = authOf(context);
  const platform = query.get('platform') ?? '';
  await progressStream(context, async (report) => {
    await ports.engine.images.pull(reference(repository, query.get('tag') ?? 'latest'), {
      ...(auth === undefined ? {} : { auth }),
      ...(platform === '' ? {} : { platform }),
      report,
      signal,
    });
  });
}

async function withUpload(context: RequestContext, run: (path: string) => Promise<void>): Promise<void> {
  const path = context.ports.system.temporaryFile();
  try {
    await saveBody(context, path);
    await run(path);
  } finally {
    rmSync(path, { force: true });
  }
}

async function create(context: RequestContext): Promise<void> {
  const { query, ports } = context;
  const fromImage = query.get('fromImage') ?? '';
  if (fromImage !== '') {
    await pull(context, fromImage);
    return;
  }
  const source = query.get('fromSrc') ?? '';
  if (source !== '-') {
    throw invalidArgument(
      `cannot import from ${source || 'nothing'}: send the archive in the request (docker import -)`,
    );
  }
  await withUpload(context, async (path) => {
    await progressStream(context, async (report) => {
      const image = await ports.engine.images.importArchive(path, {
        repository: query.get('repo') ?? '',
        tag: query.get('tag') ?? '',
        message: query.get('message') || 'Imported from -',
        changes: query.getAll('changes'),
      });
      report({ status: image.id });
    });
  });
}

async function load(context: RequestContext): Promise<void> {
  await withUpload(context, async (path) => {
    await progressStream(context, async (report) => {
      // A quiet client wants to know what came, not how.
      const quiet = queryBool(context.query, 'quiet');
      await context.ports.engine.images.load(path, (line) => {
        if (!quiet || line.stream !== undefined) report(line);
      });
    });
  });
}

async function remove({ response, ports, params, query }: RequestContext): Promise<void> {
  const force = queryBool(query, 'force');
  const { untagged, deleted } = await ports.engine.images.remove(must(params['name'], 'name'), {
    force,
    keepParents: queryBool(query, 'noprune'),
  });
  sendJson(response, [...untagged.map((Untagged) => ({ Untagged })), ...deleted.map((Deleted) => ({ Deleted }))]);
}

async function push(context: RequestContext): Promise<void> {
  const { params, query, ports, signal } = context;
  const auth = authOf(context);
  const name = reference(must(params['name'], 'name'), query.get('tag') ?? '');
  await progressStream(context, async (report) => {
    await ports.engine.images.push(name, { ...(auth === undefined ? {} : { auth }), report, signal });
  });
}

/** `docker save`: the archive is written whole first, so that a fault is still a plain error answer. */
async function save(context: RequestContext, references: readonly string[]): Promise<void> {
  const { ports, response, signal } = context;
  if (references.length === 0) throw invalidArgument('no image to save was named');
  const path = ports.system.temporaryFile();
  try {
    await ports.engine.images.save(references, path);
    response.writeHead(200, { 'Content-Type': 'application/x-tar' });
    await pipeline(createReadStream(path), response, { signal });
  } finally {
    rmSync(path, { force: true });
  }
}

async function distribution(context: RequestContext): Promise<void> {
  const { params, ports, response, signal } = context;
  const found = await ports.engine.images.distribution(must(params['name'], 'name'), authOf(context), signal);
  sendJson(response, {
    Descriptor: { mediaType: found.mediaType, digest: found.digest, size: found.size },
    Platforms: found.platforms,
  });
}

export const imageRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/images/get',
    handler: (context) =>
      save(
        context,
        context.query.getAll('names').flatMap((names) => names.split(',')),
      ),
  },
  {
    method: 'GET',
    path: '/images/{name*}/get',
    handler: (context) => save(context, [must(context.params['name'], 'name')]),
  },
  { method: 'POST', path: '/images/create', handler: create },
  { method: 'POST', path: '/images/load', handler: load },
  {
    method: 'POST',
    path: '/images/{name*}/tag',
    handler: async ({ response, ports, params, query }) => {
      const tag = query.get('tag') ?? '';
      await ports.engine.images.tag(must(params['name'], 'name'), query.get('repo') ?? '', tag || 'latest');
      response.writeHead(201).end();
    },
  },
  { method: 'POST', path: '/images/{name*}/push', handler: push },
  { method: 'DELETE', path: '/images/{name*}', handler: remove },
  { method: 'GET', path: '/distribution/{name*}/json', handler: distribution },
];
