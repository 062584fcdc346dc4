import { execFile } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VirtualClock } from '../base/index.ts';
import { runProgram } from './program.ts';
import { PlayingDaemon, type Recorded } from './testing/playing-daemon.ts';
import { RUN_LINES, WRONG_LINES } from './testing/run-lines.ts';

/** What docker's own client sent and said; SHOAL_RECORD=1 asks the client that is installed anew. */
const FILE = join(dirname(fileURLToPath(import.meta.url)), 'testing', 'run-bodies.json');
const GIVEN = 'from the environment';

interface Answers {
  bodies: Record<string, Recorded>;
  errors: Record<string, { code: number; text: string }>;
}

const daemon = new PlayingDaemon();
let stored: Answers;

/** Fields of a body by their path; those of an empty one are left out when `base` has the same. */
function fields(body: Record<string, unknown>, base?: Record<string, unknown>): Record<string, unknown> {
  const flat = (value: Record<string, unknown>): Map<string, unknown> => {
    const { HostConfig, ...own } = value;
    const host = Object.entries(HostConfig as object).map(([key, one]) => [`HostConfig.${key}`, one] as const);
    return new Map([...Object.entries(own), ...host]);
  };
  const before = base === undefined ? new Map<string, unknown>() : flat(base);
  const found = flat(body);
  for (const [key, value] of before) {
    if (!found.has(key)) found.set(key, 'ABSENT');
    else if (JSON.stringify(found.get(key)) === JSON.stringify(value)) found.delete(key);
  }
  return Object.fromEntries([...found].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** Go's maps have no order, and folders differ: lists made of maps are sorted, folders get one name. */
function comparable(recorded: Recorded | undefined, base?: Recorded): unknown {
  const text = JSON.stringify(recorded ?? null)
    .replaceAll(process.cwd(), '/CWD')
    .replaceAll(daemon.folder, '/FILE');
  const value = JSON.parse(text) as { query: string; body: Record<string, unknown> } | null;
  if (value === null) return null;
  const { body } = value;
  for (const list of [body['Env'], (body['HostConfig'] as Record<string, unknown>)['Binds']]) {
    if (Array.isArray(list)) list.sort((a: string, b: string) => (a < b ? -1 : 1));
  }
  return {
    query: value.query.split('&').toSorted().join('&'),
    body: fields(body, base?.body as Record<string, unknown> | undefined),
  };
}

const plainText = (text: string): string => text.replaceAll(daemon.folder, '/FILE').replaceAll('shoal', 'docker');

async function shoal(words: readonly string[]): Promise<{ code: number; text: string }> {
  let text = '';
  const output = { write: (part: string | Uint8Array) => void (text += part), isTerminal: false, columns: 0 };
  const code = await runProgram(['-H', daemon.host, '--config', daemon.folder, ...words], {
    ...{ out: output, err: output, input: process.stdin, clock: new VirtualClock() },
    env: { SHOAL_TEST_GIVEN: GIVEN },
    onInterrupt: () => () => undefined,
    onSignal: () => () => undefined,
  });
  return { code, text };
}

function docker(words: readonly string[]): Promise<{ code: number; text: string }> {
  const env = { PATH: process.env['PATH'] ?? '', HOME: daemon.folder, SHOAL_TEST_GIVEN: GIVEN };
  return new Promise((resolve) => {
    execFile('docker', ['-H', daemon.host, ...words], { env }, (error, stdout, stderr) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, text: stdout + stderr });
    });
  });
}

async function record(): Promise<Answers> {
  const answers: Answers = { bodies: {}, errors: {} };
  let base: Recorded | undefined;
  for (const line of RUN_LINES) {
    await docker(['create', ...daemon.words(line)]);
    const [recorded] = daemon.take();
    answers.bodies[line.join(' ')] = comparable(recorded, base) as Recorded;
    base ??= recorded;
  }
  for (const line of WRONG_LINES) {
    const { code, text } = await docker(['run', ...daemon.words(line)]);
    answers.errors[line.join(' ')] = { code, text: plainText(text) };
    daemon.take();
  }
  return answers;
}

beforeAll(async () => {
  await daemon.start();
  if (process.env['SHOAL_RECORD'] === '1') writeFileSync(FILE, `${JSON.stringify(await record(), undefined, 1)}\n`);
  stored = existsSync(FILE) ? (JSON.parse(readFileSync(FILE, 'utf8')) as Answers) : { bodies: {}, errors: {} };
});
afterAll(() => daemon.stop());

describe('create sends what docker sends', () => {
  let base: Recorded | undefined;
  it.each(RUN_LINES.map((line) => [line.join(' '), line] as const))('%s', async (name, line) => {
    const said = await shoal(['create', ...daemon.words(line)]);
    expect(said).toEqual({ code: 0, text: `${'a'.repeat(64)}\n` });
    const [recorded] = daemon.take();
    expect(comparable(recorded, base)).toEqual(stored.bodies[name]);
    base ??= recorded;
  });
});

describe('run refuses what docker refuses, in its words', () => {
  it.each(WRONG_LINES.map((line) => [line.join(' '), line] as const))('%s', async (name, line) => {
    const { code, text } = await shoal(['run', ...daemon.words(line)]);
    expect({ code, text: plainText(text) }).toEqual(stored.errors[name]);
    expect(daemon.take()).toEqual([]);
  });
});
