import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner, must } from '../base/index.ts';
import { dockerdAnswers, findDockerd, launchDockerd, makeMountPoints, removeMountPoints } from '../lab/index.ts';
import { Bed, DOCKER, NO_NAME_SERVER, ROOT } from './kit/index.ts';
import { atTerminal, type TerminalOutcome } from './kit/terminal.ts';
import { expected, isExit, plain, readLessons, readWords, type Lesson } from './kit/tutorial.ts';

/**
 * docs/tutorials.md, command by command, through the stock client against one daemon: the page is the list of the cases and
 * of what each must print. Each case goes on where the one before it ended.
 */
const COMMAND_TIMEOUT_S = 20;
const page = readFileSync(join(ROOT, 'docs', 'tutorials.md'), 'utf8');
const words = readWords(page);
const lessons = readLessons(page);

/** Commands of the page's kind that the page must have, so that none is lost. */
const VERBS =
  'run ps logs exec attach stop kill rm inspect commit diff history tag images rmi save load export import top stats pause ' +
  'unpause rename update wait port events info version cp start restart';

/** SHOAL_TUTORIALS_ON=dockerd asks the page's questions to Docker's own engine: whether the page is right. */
const ON_DOCKERD = process.env['SHOAL_TUTORIALS_ON'] === 'dockerd' ? findDockerd() : undefined;
const made: string[] = [];

const bed = new Bed('tutorials');
const dir = mkdtempSync(join(tmpdir(), 'shoal-tutorials-'));

beforeAll(async () => {
  const daemonFlags = [...NO_NAME_SERVER];
  await bed.up({ managers: 1, workers: 0, swarm: false, daemonFlags, daemons: ON_DOCKERD === undefined });
  if (ON_DOCKERD !== undefined) {
    made.push(...makeMountPoints());
    launchDockerd(bed.lab, ON_DOCKERD, 'm1');
    await dockerdAnswers(bed.lab, 'm1');
  }
  await bed.client.run('import', '--change', 'CMD ["sh"]', await bed.archive(), 'busybox');
});
afterAll(async () => {
  rmSync(dir, { recursive: true, force: true });
  await bed.down();
  removeMountPoints(made);
});

/** Runs a command line on the host; what needs a terminal gets one. */
async function run({ command, typed }: Lesson): Promise<TerminalOutcome> {
  const env = {
    PATH: `${dirname(must(DOCKER, 'the stock client'))}:${process.env['PATH'] ?? ''}`,
    ...{ HOME: dir, TERM: 'xterm', LC_ALL: 'C', DOCKER_CONFIG: dir, DOCKER_HOST: bed.client.host },
  };
  const enter = ['nsenter', '--target', String(bed.lab.holder('m1')), '--net', '--mount', '--uts', `--wd=${dir}`, '--'];
  const limit = [...enter, 'timeout', '-s', 'KILL', String(COMMAND_TIMEOUT_S)];
  const timeoutMs = (COMMAND_TIMEOUT_S + 5) * 1000;
  if (typed.length > 0) return await atTerminal(enter, command, typed, { env, cwd: dir, timeoutMs });
  const args = [...limit, 'sh', '-c', `exec 2>&1; ${command}`];
  const result = await directSpawner.run({ file: 'env', args, env, cwd: dir, timeoutMs });
  return { code: result.code ?? -1, output: result.stdout.toString('utf8') };
}

describe('docs/tutorials.md', () => {
  it('has every verb', () => {
    const all = lessons.map(({ command }) => command).join('\n');
    expect(VERBS.split(' ').filter((verb) => !new RegExp(`docker (-\\S+ )*${verb}\\b`).test(all))).toEqual([]);
  });

  if (DOCKER === undefined) {
    it('needs the stock client', () => expect(DOCKER, 'docker is not installed: npm run setup').toBeDefined());
    return;
  }

  for (const lesson of lessons) {
    it(`${lesson.section}, line ${lesson.line}: ${lesson.command}`, async () => {
      const { code, output } = await run(lesson);
      const shown = plain(output);
      expect(shown).toMatch(expected(lesson, words));
      expect(isExit(lesson, code, words), `exit code ${code}, not ${lesson.exit}; it printed:\n${shown}`).toBe(true);
    });
  }
});
