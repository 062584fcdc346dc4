import { invalidArgument, must } from '../../base/index.ts';
import { parseJsonObject, readJson } from '../body.ts';
import type { ExecFacts, TerminalSizeFacts } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { sendEmpty, sendJson } from '../stream.ts';
import { querySize, streamType } from './attach.ts';

function consoleSize(json: Fields): { consoleSize?: TerminalSizeFacts } {
  const [height = 0, width = 0] = json.numbers('ConsoleSize');
  return height > 0 && width > 0 ? { consoleSize: { height, width } } : {};
}

async function create(context: RequestContext): Promise<void> {
  const { ports, params, response } = context;
  const json = new Fields(await readJson(context));
  const command = json.words('Cmd');
  if (command.length === 0) throw invalidArgument('No exec command specified');
  const [user, workingDir] = [json.string('User'), json.string('WorkingDir')];
  const id = await ports.engine.terminals.createExec(must(params['id'], 'id'), {
    command,
    env: json.strings('Env'),
    ...(user === '' ? {} : { user }),
    ...(workingDir === '' ? {} : { workingDir }),
    privileged: json.bool('Privileged'),
    tty: json.bool('Tty'),
    attachStdin: json.bool('AttachStdin'),
    attachStdout: json.bool('AttachStdout'),
    attachStderr: json.bool('AttachStderr'),
    detachKeys: json.string('DetachKeys'),
    ...consoleSize(json),
  });
  sendJson(response, { Id: id }, 201);
}

async function start(context: RequestContext): Promise<void> {
  const { ports, params, request, response, version } = context;
  const hijack = must(context.hijack, 'a connection to take over');
  const json = new Fields(parseJsonObject(await hijack.body(), request.headers['content-type']));
  const detach = json.bool('Detach');
  const attached = await ports.engine.terminals.startExec(must(params['id'], 'id'), { detach, ...consoleSize(json) });
  if (attached === undefined) sendEmpty(response);
  else await hijack.carry(attached, streamType(attached, version));
}

/** An exec as `docker inspect` shows it. */
function execToJson({ id, containerId, request, running, exitCode, pid }: ExecFacts): object {
  const [entrypoint = '', ...args] = request.command;
  return {
    ID: id,
    Running: running,
    ExitCode: exitCode ?? null,
    ProcessConfig: {
      tty: request.tty,
      entrypoint,
      arguments: args,
      privileged: request.privileged,
      ...(request.user === undefined ? {} : { user: request.user }),
    },
    OpenStdin: request.attachStdin,
    OpenStderr: request.attachStderr,
    OpenStdout: request.attachStdout,
    CanRemove: false,
    ContainerID: containerId,
    DetachKeys: Buffer.from(request.detachKeys).toString('base64'),
    Pid: pid,
  };
}

export const execRoutes: readonly Route[] = [
  { method: 'POST', path: '/containers/{id}/exec', handler: create },
  { method: 'POST', path: '/exec/{id}/start', handler: start },
  {
    method: 'POST',
    path: '/exec/{id}/resize',
    handler: async ({ ports, params, query, response }) => {
      await ports.engine.terminals.resizeExec(must(params['id'], 'id'), querySize(query));
      sendEmpty(response);
    },
  },
  {
    method: 'GET',
    path: '/exec/{id}/json',
    handler: async ({ ports, params, response }) =>
      sendJson(response, execToJson(ports.engine.terminals.inspectExec(must(params['id'], 'id')))),
  },
];
