import { invalidArgument } from '../../base/index.ts';
import { queryBool, readJson } from '../body.ts';
import type { RequestContext, Route } from '../router.ts';
import { sendJson } from '../stream.ts';

async function commit(context: RequestContext): Promise<void> {
  const { ports, query, response } = context;
  const container = query.get('container') ?? '';
  if (container === '') throw invalidArgument('invalid reference: no container to commit was named');
  const config = await readJson(context);
  const image = await ports.engine.files.commit(container, {
    repository: query.get('repo') ?? '',
    tag: query.get('tag') ?? '',
    author: query.get('author') ?? '',
    comment: query.get('comment') ?? '',
    changes: query.getAll('changes'),
    // Left out, it means yes.
    pause: query.get('pause') === null || queryBool(query, 'pause'),
    ...(Object.keys(config).length === 0 ? {} : { config }),
  });
  sendJson(response, { Id: image.id }, 201);
}

export const commitRoutes: readonly Route[] = [{ method: 'POST', path: '/commit', handler: commit }];
