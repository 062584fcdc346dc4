import { segment, type Client, type Query } from './client.ts';
import { atLeast, exactly, ExitError, option, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import { waitOnService } from './converge.ts';
import type { Flags } from './options.ts';
import type { Service, ServiceSpec } from './objects.ts';
import { registryAuth } from './registry-auth.ts';
import { editData, editSpec } from './service-edit.ts';
import { CREATE_OPTIONS, UPDATE_OPTIONS } from './service-options.ts';
import { serviceSpec } from './service-spec.ts';
import { reportErrors } from './task-table.ts';
import { errorMessage } from '../base/index.ts';
import { parseUint } from './units.ts';
import { checkImageName, cut, imageName, isImageName } from './words.ts';

interface Answer {
  ID?: string;
  Warnings?: string[] | null;
}

interface Distribution {
  Descriptor: { digest: string };
  Platforms?: { architecture?: string; os?: string }[] | null;
}

const unresolvedWarning = (image: string): string =>
  `image ${image} could not be accessed on a registry to record\nits digest. Each node will access ${image} independently,\n` +
  'possibly leading to different nodes running different\nversions of the image.\n';

/** Pins the image to its digest and the service to its platforms. Gives a warning when the registry cannot be asked. */
async function pinImage(client: Client, spec: ServiceSpec, auth: string): Promise<string | undefined> {
  const container = spec.TaskTemplate.ContainerSpec;
  // A name that is none is sent as it is: the manager says what is wrong with it.
  if (!isImageName(container.Image)) return unresolvedWarning(container.Image);
  if (!container.Image.includes('@') && imageName(container.Image).tag === undefined) container.Image += ':latest';
  try {
    const path = container.Image.split('/').map(segment).join('/');
    const found = await client.json<Distribution>({
      method: 'GET',
      path: `/distribution/${path}/json`,
      headers: auth === '' ? {} : { 'X-Registry-Auth': auth },
    });
    if (!container.Image.includes('@')) container.Image += `@${found.Descriptor.digest}`;
    const platforms = (found.Platforms ?? []).map(({ architecture = '', os = '' }) => ({
      // ARM variants differ between tools; an empty architecture fits every one.
      ...(architecture === '' || architecture.toLowerCase() === 'arm' ? {} : { Architecture: architecture }),
      ...(os === '' ? {} : { OS: os }),
    }));
    if (platforms.length > 0) spec.TaskTemplate.Placement = { ...spec.TaskTemplate.Placement, Platforms: platforms };
    return undefined;
  } catch {
    return unresolvedWarning(container.Image);
  }
}

function authOf(context: Context, flags: Flags, image: string): string {
  return flags.bool('with-registry-auth') ? registryAuth(context.configDir, image) : '';
}

function warn(context: Context, warnings: readonly (string | undefined)[] | null | undefined): void {
  for (const warning of warnings ?? []) if (warning !== undefined) say(context.err, warning);
}

/** A change of a service as it is sent, made from flags. */
export interface ServiceChange {
  spec: ServiceSpec;
  query: Query;
  headers: Record<string, string>;
  /** What the user should know of the image. */
  warning: string | undefined;
}

const authHeaders = (auth: string): Record<string, string> => (auth === '' ? {} : { 'X-Registry-Auth': auth });

/** The service that `service create` asks for. */
export async function serviceToCreate(
  context: Context,
  flags: Flags,
  words: readonly string[],
): Promise<ServiceChange> {
  const { client } = context;
  const spec = await serviceSpec(client, flags, words, context.env);
  await editData(client, flags, spec.TaskTemplate.ContainerSpec, '');
  const auth = authOf(context, flags, words[0] ?? '');
  const warning = flags.bool('no-resolve-image') ? undefined : await pinImage(client, spec, auth);
  return { spec, query: {}, headers: authHeaders(auth), warning };
}

async function create(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { spec, query, headers, warning } = await serviceToCreate(context, flags, words);
  const answer = await context.client.post<Answer>('/services/create', spec, query, headers);
  warn(context, [warning, ...(answer.Warnings ?? [])]);
  const id = answer.ID ?? '';
  say(context.out, id);
  if (!flags.bool('detach')) await waitOnService(context, id, flags.bool('quiet'));
}

/** The change that `service update` asks for. */
export async function serviceToUpdate(
  context: Context,
  flags: Flags,
  name: string,
): Promise<ServiceChange & { id: string }> {
  const { client } = context;
  const service = await client.get<Service>(`/services/${segment(name)}`, { insertDefaults: 'false' });
  const { Spec: spec } = service;
  const rollback = flags.bool('rollback');
  if (rollback && flags.given.some((flag) => !['rollback', 'detach', 'quiet', 'format'].includes(flag))) {
    throw new Error('other flags may not be combined with --rollback');
  }
  await editSpec(client, flags, spec);
  await editData(client, flags, spec.TaskTemplate.ContainerSpec, '-add');
  const auth = authOf(context, flags, spec.TaskTemplate.ContainerSpec.Image);
  const resolve = flags.changed('image') && !flags.bool('no-resolve-image');
  if (flags.changed('image')) checkImageName(flags.string('image'));
  const warning = resolve ? await pinImage(client, spec, auth) : undefined;
  const query = {
    version: service.Version.Index,
    rollback: rollback ? 'previous' : undefined,
    registryAuthFrom: auth === '' ? 'spec' : undefined,
  };
  return { id: service.ID, spec, query, headers: authHeaders(auth), warning };
}

async function update(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const name = words[0] ?? '';
  const { id, spec, query, headers, warning } = await serviceToUpdate(context, flags, name);
  const answer = await context.client.post<Answer>(`/services/${id}/update`, spec, query, headers);
  warn(context, [warning, ...(answer.Warnings ?? [])]);
  say(context.out, name);
  if (!flags.bool('detach')) await waitOnService(context, name, flags.bool('quiet'));
}

async function rollback(context: Context, flags: Flags, words: readonly string[]): Promise<void> {
  const { client } = context;
  const name = words[0] ?? '';
  const service = await client.get<Service>(`/services/${segment(name)}`, { insertDefaults: 'false' });
  const to = flags.string('to');
  if (flags.changed('to') && !/^[1-9]\d{0,8}$/.test(to))
    throw new Error(`invalid revision '${to}': a number is needed`);
  const query = { version: service.Version.Index, ...(to === '' ? { rollback: 'previous' } : { rollbackTo: to }) };
  const answer = await client.post<Answer>(`/services/${service.ID}/update`, service.Spec, query);
  warn(context, answer.Warnings);
  say(context.out, name);
  if (!flags.bool('detach')) await waitOnService(context, name, flags.bool('quiet'));
}

async function scaleOne(context: Context, name: string, count: number): Promise<void> {
  const { client } = context;
  const service = await client.get<Service>(`/services/${segment(name)}`, { insertDefaults: 'false' });
  const { Replicated, ReplicatedJob } = service.Spec.Mode;
  if (Replicated !== undefined) Replicated.Replicas = count;
  else if (ReplicatedJob !== undefined) ReplicatedJob.TotalCompletions = count;
  else throw new Error('scale can only be used with replicated or replicated-job mode');
  const query = { version: service.Version.Index };
  const answer = await client.post<Answer>(`/services/${service.ID}/update`, service.Spec, query);
  warn(context, answer.Warnings);
  say(context.out, `${name} scaled to ${count}`);
}

function scaleHint(message: string): ExitError {
  return new ExitError(
    `${message}\nSee 'shoal service scale --help'.\n\nUsage:  shoal service scale SERVICE=REPLICAS [SERVICE=REPLICAS...]\n\nSet the number of replicas of services\n`,
    1,
  );
}

function replicasOf(text: string): number {
  try {
    return parseUint(text);
  } catch (error) {
    throw new Error(`invalid replicas value ${text}: ${errorMessage(error)}`, { cause: error });
  }
}

async function scale(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const wanted = words.map((word) => {
    const [name, count] = cut(word, '=');
    if (name === '' || count === undefined || count === '') throw scaleHint(`invalid scale specifier '${word}'.`);
    return { name, text: count };
  });
  const errors: string[] = [];
  const scaled: string[] = [];
  for (const { name, text } of wanted) {
    try {
      await scaleOne(context, name, replicasOf(text));
      scaled.push(name);
    } catch (error) {
      errors.push(`${name}: ${errorMessage(error)}`);
    }
  }
  if (!flags.bool('detach')) {
    for (const name of scaled) {
      try {
        await waitOnService(context, name, false);
      } catch (error) {
        errors.push(`${name}: ${errorMessage(error)}`);
      }
    }
  }
  return reportErrors(context, errors);
}

const DETACH = option('detach,d', 'bool', 'Return at once, do not wait until the service has converged');

export const serviceChangeCommands: CommandGroup = {
  create: {
    usage: 'IMAGE [COMMAND] [ARG...]',
    arguments: atLeast(1),
    options: CREATE_OPTIONS,
    stopAtArgument: true,
    run: create,
  },
  update: { usage: 'SERVICE', arguments: exactly(1), options: UPDATE_OPTIONS, run: update },
  rollback: {
    usage: 'SERVICE',
    arguments: exactly(1),
    options: [
      DETACH,
      option('quiet,q', 'bool', 'Show no progress'),
      option('to', 'string', 'Revision to go to; see "service history" (the former spec)'),
    ],
    run: rollback,
  },
  scale: { usage: 'SERVICE=REPLICAS [SERVICE=REPLICAS...]', arguments: atLeast(1), options: [DETACH], run: scale },
};
