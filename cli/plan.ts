import { segment, type Call } from './client.ts';
import { atLeast, exactly, option, type Command, type CommandGroup } from './command.ts';
import { say, type Context } from './context.ts';
import type { Flags } from './options.ts';
import type { Service } from './objects.ts';
import { serviceToCreate, serviceToUpdate, type ServiceChange } from './service-change.ts';
import { CREATE_OPTIONS, UPDATE_OPTIONS } from './service-options.ts';
import { setText } from './why.ts';

/** Exit code when something would find no place. */
const DOES_NOT_FIT = 2;

const PLAN_FORMAT = option('format', 'string', "Format output: 'json'");

interface Plan {
  Text: string;
  Waiting: { Already: boolean }[];
}

/** Asks for a plan, prints it, and tells whether everything would fit. */
async function plan(context: Context, flags: Flags, call: Omit<Call, 'method'>): Promise<number> {
  const format = flags.string('format');
  if (format !== '' && format !== 'json') throw new Error(`invalid format "${format}": only json can be asked for`);
  const text = await context.client.text({ method: 'POST', ...call, path: `/shoal/plan${call.path}` });
  const answer = JSON.parse(text) as Plan;
  if (format === 'json') context.out.write(text);
  else {
    context.out.write(setText(answer.Text, context.out.columns));
    say(context.out, '\nNothing was changed.');
  }
  return answer.Waiting.some(({ Already }) => !Already) ? DOES_NOT_FIT : 0;
}

function planChange(context: Context, flags: Flags, path: string, change: ServiceChange): Promise<number> {
  const { spec, query, headers, warning } = change;
  if (warning !== undefined) say(context.err, warning);
  return plan(context, flags, { path, query, headers, body: spec });
}

async function create(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  return await planChange(context, flags, '/services/create', await serviceToCreate(context, flags, words));
}

async function update(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const change = await serviceToUpdate(context, flags, words[0] ?? '');
  return await planChange(context, flags, `/services/${change.id}/update`, change);
}

async function remove(context: Context, flags: Flags, words: readonly string[]): Promise<number> {
  const service = await context.client.get<Service>(`/services/${segment(words[0] ?? '')}`);
  return await plan(context, flags, { path: `/services/${service.ID}/remove` });
}

const node = (what: 'down' | 'drain'): Command => ({
  usage: 'NODE',
  arguments: exactly(1),
  options: [PLAN_FORMAT],
  run: (context, flags, words) => plan(context, flags, { path: `/nodes/${segment(words[0] ?? '')}/${what}` }),
});

export const planCommands: CommandGroup = {
  'node-down': node('down'),
  'node-drain': node('drain'),
  'service create': {
    usage: 'IMAGE [COMMAND] [ARG...]',
    arguments: atLeast(1),
    options: [...CREATE_OPTIONS, PLAN_FORMAT],
    stopAtArgument: true,
    run: create,
  },
  'service rm': { usage: 'SERVICE', arguments: exactly(1), options: [PLAN_FORMAT], run: remove },
  'service update': {
    usage: 'SERVICE',
    arguments: exactly(1),
    options: [...UPDATE_OPTIONS, PLAN_FORMAT],
    run: update,
  },
};
