import { must } from '../../base/index.ts';
import { queryBool, queryVersion, readJson } from '../body.ts';
import { Filters } from '../filters.ts';
import type { RequestContext, Route } from '../router.ts';
import { nodeSpecFromJson, nodeToJson } from '../shapes/node.ts';
import { MEMBERSHIP, ROLE } from '../shapes/words.ts';
import { sendEmpty, sendJson } from '../stream.ts';

async function list({ response, ports, query }: RequestContext): Promise<void> {
  const filters = Filters.parse(query, ['id', 'label', 'membership', 'name', 'node.label', 'role']);
  const { nodes } = await ports.swarm.call('ListNodes', {
    filters: {
      names: filters.get('name'),
      id_prefixes: filters.get('id'),
      labels: filters.labels(),
      node_labels: filters.labels('node.label'),
      memberships: filters.get('membership').map((word) => MEMBERSHIP[word as keyof typeof MEMBERSHIP]),
      roles: filters.get('role').map((word) => ROLE[word as keyof typeof ROLE]),
    },
  });
  sendJson(response, nodes.map(nodeToJson));
}

async function inspect({ response, ports, params }: RequestContext): Promise<void> {
  const { node } = await ports.swarm.call('GetNode', { reference: must(params['id'], 'id') });
  sendJson(response, nodeToJson(must(node, 'node')));
}

async function update(context: RequestContext): Promise<void> {
  const { ports, params, query, response } = context;
  const version = queryVersion(query, 'node');
  const spec = nodeSpecFromJson(await readJson(context));
  const { node } = await ports.swarm.call('GetNode', { reference: must(params['id'], 'id') });
  await ports.swarm.call('UpdateNode', { node_id: must(node, 'node').id, node_version: { index: version }, spec });
  sendEmpty(response);
}

async function remove({ response, ports, params, query }: RequestContext): Promise<void> {
  const { node } = await ports.swarm.call('GetNode', { reference: must(params['id'], 'id') });
  await ports.swarm.call('RemoveNode', { node_id: must(node, 'node').id, force: queryBool(query, 'force') });
  sendEmpty(response);
}

export const nodeRoutes: readonly Route[] = [
  { method: 'GET', path: '/nodes', handler: list },
  { method: 'GET', path: '/nodes/{id}', handler: inspect },
  { method: 'POST', path: '/nodes/{id}/update', handler: update },
  { method: 'DELETE', path: '/nodes/{id}', handler: remove },
];
