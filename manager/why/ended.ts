import { TaskState, type Task } from '../../proto/index.ts';
import { observed } from '../orchestrator/service-view.ts';
import { bytes } from './words.ts';

/** What the end of a task means, and what helps. */
export interface Diagnosis {
  what: string;
  fix: string[];
}

const OUT_OF_MEMORY = /out of memory/;
const UNHEALTHY = /unhealthy container/;
const NO_IMAGE = /^No such image: (\S+)/;
const EXIT_CODE = /non-zero exit \((\d+)\)/;
const SIGNAL_BASE = 128;
const SIGNALS: Readonly<Record<number, string>> = {
  1: 'SIGHUP',
  2: 'SIGINT',
  4: 'SIGILL',
  6: 'SIGABRT',
  7: 'SIGBUS',
  8: 'SIGFPE',
  9: 'SIGKILL',
  11: 'SIGSEGV',
  13: 'SIGPIPE',
  15: 'SIGTERM',
};

function outOfMemory(task: Task): Diagnosis {
  const limit = task.spec?.resources?.limits?.memory_bytes ?? 0;
  if (limit > 0) {
    return {
      what: `the kernel killed its container: it needed more than its memory limit of ${bytes(limit)}`,
      fix: [`raise the limit ("service update --limit-memory"), or let the program need less than ${bytes(limit)}`],
    };
  }
  return {
    what: 'the kernel killed its container: the node ran out of memory',
    fix: [
      'give the service a limit and a reservation ("service update --limit-memory --reserve-memory"), so that nodes ' +
        'are not overfilled',
    ],
  };
}

function unhealthy(task: Task): Diagnosis {
  const check = task.spec?.container?.healthcheck;
  const test = (check?.test ?? []).filter((word) => word !== 'CMD' && word !== 'CMD-SHELL').join(' ');
  const command = test === '' ? 'its health check' : `its health check "${test}"`;
  const retries = check?.retries ?? 0;
  const often = retries > 0 ? ` ${retries} times in a row` : ' too often';
  return {
    what: `${command} failed${often}, so its container was stopped`,
    fix: [
      'see the output of the check and of the program ("service logs"); a slow start needs "--health-start-period", ' +
        'a slow answer "--health-timeout"',
    ],
  };
}

function noImage(task: Task, image: string): Diagnosis {
  const anonymous = (task.spec?.container?.pull_options?.registry_auth ?? '') === '';
  const login = anonymous ? '; a private image needs "service update --with-registry-auth"' : '';
  return {
    what: `the node has no image ${image} and could not pull it`,
    fix: [`check the name and the tag, and that the node reaches the registry${login}`],
  };
}

function exitCode(task: Task, code: number): Diagnosis {
  const logs = 'see what it wrote before it ended: "service logs"';
  const signal = SIGNALS[code - SIGNAL_BASE];
  if (signal !== undefined) return { what: `its program was ended by ${signal} (exit code ${code})`, fix: [logs] };
  if (code === 127)
    return { what: 'its command was not found in the image (exit code 127)', fix: ['correct the command'] };
  if (code === 126) {
    return { what: 'its command cannot be executed (exit code 126)', fix: ['make the file executable in the image'] };
  }
  return { what: `its program ended by itself with exit code ${code}`, fix: [logs] };
}

/** What the end of a task means; undefined when its error says all there is to say. */
export function diagnose(task: Task): Diagnosis | undefined {
  const err = task.status?.err ?? '';
  if (observed(task) <= TaskState.RUNNING) return undefined;
  if (OUT_OF_MEMORY.test(err)) return outOfMemory(task);
  if (UNHEALTHY.test(err)) return unhealthy(task);
  const image = NO_IMAGE.exec(err)?.[1];
  if (image !== undefined) return noImage(task, image);
  const code = EXIT_CODE.exec(err)?.[1];
  return code === undefined ? undefined : exitCode(task, Number(code));
}
