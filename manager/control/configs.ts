import { alreadyExists, invalidArgument, newId } from '../../base/index.ts';
import { Config, type ConfigSpec } from '../../proto/index.ts';
import { sameMessage } from '../store/dirty.ts';
import { hasLabels, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import { validateFileName } from './names.ts';
import type { Control, ControlOptions } from './types.ts';
import { checkVersion } from './versions.ts';

/** A config's data is shorter than this, bytes. */
export const CONFIG_BYTES_LIMIT = 1000 * 1024;

function validate(spec: ConfigSpec | null): ConfigSpec {
  if (spec === null) throw invalidArgument('a config spec must be provided');
  validateFileName(spec.annotations);
  if (spec.data.length === 0 || spec.data.length >= CONFIG_BYTES_LIMIT) {
    throw invalidArgument(`config data must be larger than 0 and less than ${CONFIG_BYTES_LIMIT} bytes`);
  }
  return spec;
}

type Methods = 'GetConfig' | 'ListConfigs' | 'CreateConfig' | 'UpdateConfig' | 'RemoveConfig';

/** Configs: immutable but for their labels. */
export function configMethods({ store, random }: ControlOptions): Pick<Control, Methods> {
  return {
    GetConfig: async ({ reference }) => ({ config: resolve(store.view(), 'config', reference) }),

    ListConfigs: async ({ filters }) => {
      const found = store
        .view()
        .list('config')
        .filter((config) => {
          if (filters === null) return true;
          const annotations = config.spec?.annotations;
          return (
            passesCommon(filters, annotations?.name ?? '', config.id) && hasLabels(annotations?.labels, filters.labels)
          );
        });
      return { configs: found };
    },

    CreateConfig: async (request) => {
      const spec = validate(request.spec);
      const id = newId(random);
      await store.update((tx) => {
        const name = spec.annotations?.name ?? '';
        if (tx.byName('config', name) !== undefined) throw alreadyExists(`config ${name} already exists`);
        tx.create('config', Config.create({ id, spec }));
      });
      return { config: resolve(store.view(), 'config', id) };
    },

    UpdateConfig: async ({ config_id, config_version, spec }) => {
      const id = await store.update((tx) => {
        const stored = resolve(tx, 'config', config_id);
        checkVersion(stored, config_version);
        const old = stored.spec;
        if (
          spec === null ||
          spec.annotations?.name !== old?.annotations?.name ||
          (spec.data.length > 0 && !sameMessage(spec.data, old?.data))
        ) {
          throw invalidArgument('only updates to Labels are allowed');
        }
        const copy = Config.clone(stored);
        if (copy.spec !== null) copy.spec.annotations = spec.annotations;
        tx.update('config', copy);
        return stored.id;
      });
      return { config: resolve(store.view(), 'config', id) };
    },

    RemoveConfig: async ({ config_id }) => {
      await store.update((tx) => {
        const config = resolve(tx, 'config', config_id);
        const users = tx.servicesByConfig(config.id).map((service) => service.spec?.annotations?.name ?? service.id);
        if (users.length > 0) {
          throw invalidArgument(
            `config '${config.spec?.annotations?.name ?? config.id}' is in use by the following ` +
              `service${users.length > 1 ? 's' : ''}: ${users.join(', ')}`,
          );
        }
        tx.remove('config', config.id);
      });
      return {};
    },
  };
}
