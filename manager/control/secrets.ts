import { alreadyExists, invalidArgument, newId, ShoalError } from '../../base/index.ts';
import { Secret, type SecretSpec } from '../../proto/index.ts';
import { sameMessage } from '../store/dirty.ts';
import { hasLabels, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import { validateFileName } from './names.ts';
import type { Control, ControlOptions } from './types.ts';
import { checkVersion } from './versions.ts';

/** A secret's data is shorter than this, bytes. */
export const SECRET_BYTES_LIMIT = 500 * 1024;

/** A secret as callers may see it: without its data. */
function withoutData(secret: Secret): Secret {
  return secret.spec === null ? secret : { ...secret, spec: { ...secret.spec, data: new Uint8Array(0) } };
}

function validate(spec: SecretSpec | null): SecretSpec {
  if (spec === null) throw invalidArgument('a secret spec must be provided');
  validateFileName(spec.annotations);
  if (spec.driver !== null) {
    if (spec.driver.name === '') throw invalidArgument('secret driver must have a name');
    throw new ShoalError('Unimplemented', 'secret drivers are not supported: create the secret with its data');
  }
  if (spec.data.length === 0 || spec.data.length >= SECRET_BYTES_LIMIT) {
    throw invalidArgument(`secret data must be larger than 0 and less than ${SECRET_BYTES_LIMIT} bytes`);
  }
  return spec;
}

type Methods = 'GetSecret' | 'ListSecrets' | 'CreateSecret' | 'UpdateSecret' | 'RemoveSecret';

/** Secrets: immutable but for their labels; their data never leaves the managers through this door. */
export function secretMethods({ store, random }: ControlOptions): Pick<Control, Methods> {
  return {
    GetSecret: async ({ reference }) => ({ secret: withoutData(resolve(store.view(), 'secret', reference)) }),

    ListSecrets: async ({ filters }) => {
      const found = store
        .view()
        .list('secret')
        .filter((secret) => {
          if (filters === null) return true;
          const annotations = secret.spec?.annotations;
          return (
            passesCommon(filters, annotations?.name ?? '', secret.id) && hasLabels(annotations?.labels, filters.labels)
          );
        });
      return { secrets: found.map(withoutData) };
    },

    CreateSecret: async (request) => {
      const spec = validate(request.spec);
      const id = newId(random);
      await store.update((tx) => {
        const name = spec.annotations?.name ?? '';
        if (tx.byName('secret', name) !== undefined) throw alreadyExists(`secret ${name} already exists`);
        tx.create('secret', Secret.create({ id, spec }));
      });
      return { secret: withoutData(resolve(store.view(), 'secret', id)) };
    },

    UpdateSecret: async ({ secret_id, secret_version, spec }) => {
      const id = await store.update((tx) => {
        const stored = resolve(tx, 'secret', secret_id);
        checkVersion(stored, secret_version);
        const old = stored.spec;
        if (
          spec === null ||
          spec.annotations?.name !== old?.annotations?.name ||
          (spec.data.length > 0 && !sameMessage(spec.data, old?.data))
        ) {
          throw invalidArgument('only updates to Labels are allowed');
        }
        const copy = Secret.clone(stored);
        if (copy.spec !== null) copy.spec.annotations = spec.annotations;
        tx.update('secret', copy);
        return stored.id;
      });
      return { secret: withoutData(resolve(store.view(), 'secret', id)) };
    },

    RemoveSecret: async ({ secret_id }) => {
      await store.update((tx) => {
        const secret = resolve(tx, 'secret', secret_id);
        const users = tx.servicesBySecret(secret.id).map((service) => service.spec?.annotations?.name ?? service.id);
        if (users.length > 0) {
          throw invalidArgument(
            `secret '${secret.spec?.annotations?.name ?? secret.id}' is in use by the following ` +
              `service${users.length > 1 ? 's' : ''}: ${users.join(', ')}`,
          );
        }
        tx.remove('secret', secret.id);
      });
      return {};
    },
  };
}
