import { must } from '../../base/index.ts';
import { ConfigSpec, SecretSpec } from '../../proto/index.ts';
import { queryVersion, readJson } from '../body.ts';
import { Filters } from '../filters.ts';
import type { RequestContext, Route } from '../router.ts';
import { configToJson, dataSpecFromJson, secretToJson } from '../shapes/swarm.ts';
import { sendEmpty, sendJson } from '../stream.ts';

/** Secrets and configs: the same verbs over two kinds of object. */
function listFilters(query: URLSearchParams): {
  names: string[];
  id_prefixes: string[];
  labels: Record<string, string>;
} {
  const filters = Filters.parse(query, ['id', 'label', 'name', 'names']);
  return {
    names: [...filters.get('name'), ...filters.get('names')],
    id_prefixes: filters.get('id'),
    labels: filters.labels(),
  };
}

const reference = ({ params }: RequestContext): string => must(params['id'], 'id');

async function createSecret(context: RequestContext): Promise<void> {
  const spec = SecretSpec.create(dataSpecFromJson(await readJson(context)));
  const { secret } = await context.ports.swarm.call('CreateSecret', { spec });
  sendJson(context.response, { ID: must(secret, 'secret').id }, 201);
}

async function updateSecret(context: RequestContext): Promise<void> {
  const version = queryVersion(context.query, 'secret');
  const spec = SecretSpec.create(dataSpecFromJson(await readJson(context)));
  const { secret } = await context.ports.swarm.call('GetSecret', { reference: reference(context) });
  const secret_id = must(secret, 'secret').id;
  await context.ports.swarm.call('UpdateSecret', { secret_id, secret_version: { index: version }, spec });
  sendEmpty(context.response);
}

async function removeSecret(context: RequestContext): Promise<void> {
  const { secret } = await context.ports.swarm.call('GetSecret', { reference: reference(context) });
  await context.ports.swarm.call('RemoveSecret', { secret_id: must(secret, 'secret').id });
  sendEmpty(context.response, 204);
}

async function createConfig(context: RequestContext): Promise<void> {
  const { driver: _none, ...spec } = dataSpecFromJson(await readJson(context));
  const { config } = await context.ports.swarm.call('CreateConfig', { spec: ConfigSpec.create(spec) });
  sendJson(context.response, { ID: must(config, 'config').id }, 201);
}

async function updateConfig(context: RequestContext): Promise<void> {
  const version = queryVersion(context.query, 'config');
  const { driver: _none, ...fields } = dataSpecFromJson(await readJson(context));
  const { config } = await context.ports.swarm.call('GetConfig', { reference: reference(context) });
  const config_id = must(config, 'config').id;
  const spec = ConfigSpec.create(fields);
  await context.ports.swarm.call('UpdateConfig', { config_id, config_version: { index: version }, spec });
  sendEmpty(context.response);
}

async function removeConfig(context: RequestContext): Promise<void> {
  const { config } = await context.ports.swarm.call('GetConfig', { reference: reference(context) });
  await context.ports.swarm.call('RemoveConfig', { config_id: must(config, 'config').id });
  sendEmpty(context.response, 204);
}

export const dataRoutes: readonly Route[] = [
  {
    method: 'GET',
    path: '/secrets',
    handler: async ({ response, ports, query }) => {
      const { secrets } = await ports.swarm.call('ListSecrets', { filters: listFilters(query) });
      sendJson(response, secrets.map(secretToJson));
    },
  },
  { method: 'POST', path: '/secrets/create', handler: createSecret },
  {
    method: 'GET',
    path: '/secrets/{id}',
    handler: async (context) => {
      const { secret } = await context.ports.swarm.call('GetSecret', { reference: reference(context) });
      sendJson(context.response, secretToJson(must(secret, 'secret')));
    },
  },
  { method: 'POST', path: '/secrets/{id}/update', handler: updateSecret },
  { method: 'DELETE', path: '/secrets/{id}', handler: removeSecret },
  {
    method: 'GET',
    path: '/configs',
    handler: async ({ response, ports, query }) => {
      const { configs } = await ports.swarm.call('ListConfigs', { filters: listFilters(query) });
      sendJson(response, configs.map(configToJson));
    },
  },
  { method: 'POST', path: '/configs/create', handler: createConfig },
  {
    method: 'GET',
    path: '/configs/{id}',
    handler: async (context) => {
      const { config } = await context.ports.swarm.call('GetConfig', { reference: reference(context) });
      sendJson(context.response, configToJson(must(config, 'config')));
    },
  },
  { method: 'POST', path: '/configs/{id}/update', handler: updateConfig },
  { method: 'DELETE', path: '/configs/{id}', handler: removeConfig },
];
