/** Runs every suite, adds up what passed and failed, and ends with the one line that CI reads. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const scratch = mkdtempSync(join(tmpdir(), 'shoal-test-'));

interface Outcome {
  suite: string;
  passed: number;
  failed: number;
  seconds: number;
}

/** Names of what failed, repeated at the end: where a log is cut, its end is what is left. */
const failures: string[] = [];

/** Runs a command to its end; what it prints goes out as it comes. @returns its exit code */
async function run(file: string, args: readonly string[]): Promise<number> {
  const child = spawn(file, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  return await ended(file, child);
}

async function ended(file: string, child: ChildProcess): Promise<number> {
  return await new Promise((resolve) => {
    child.once('error', (error) => {
      console.error(`${file}: ${error.message}`);
      resolve(1);
    });
    child.once('close', (code) => resolve(code ?? 1));
  });
}

async function timed(suite: string, body: () => Promise<{ passed: number; failed: number }>): Promise<Outcome> {
  const began = performance.now();
  return { suite, ...(await body()), seconds: (performance.now() - began) / 1000 };
}

function judge(suite: string, status: number): { passed: number; failed: number } {
  if (status === 0) return { passed: 1, failed: 0 };
  failures.push(suite);
  return { passed: 0, failed: 1 };
}

/** A command that passes or fails as one. */
async function check(suite: string, file: string, ...args: string[]): Promise<Outcome> {
  console.log(`\n== ${suite}`);
  return await timed(suite, async () => judge(suite, await run(file, args)));
}

/** An npm script that may run beside others: what it prints comes at its end, in one piece. */
async function script(suite: string, name: string): Promise<Outcome> {
  return await timed(suite, async () => {
    const child = spawn('npm', ['run', '-s', name], { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    const printed: Buffer[] = [];
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (part: Buffer) => printed.push(part));
    const status = await ended('npm', child);
    console.log(`\n== ${suite}\n${Buffer.concat(printed).toString('utf8').trimEnd()}`);
    return judge(suite, status);
  });
}

/** At most this many checks of the text run at a time. */
const SCRIPTS_AT_ONCE = 2;

/** Runs npm scripts beside each other, in the order given; the longest is best the first. */
async function scripts(list: readonly (readonly [suite: string, name: string])[]): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  const waiting = [...list];
  const work = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) outcomes.push(await script(...next));
  };
  await Promise.all(Array.from({ length: SCRIPTS_AT_ONCE }, work));
  return list.flatMap(([suite]) => outcomes.filter((outcome) => outcome.suite === suite));
}

/** The part of vitest's JSON report that is read here. */
interface Report {
  numPassedTests: number;
  numFailedTests: number;
  numFailedTestSuites: number;
  testResults: {
    name: string;
    status: string;
    message: string;
    assertionResults: { fullName: string; status: string; failureMessages: string[] }[];
  }[];
}

/** A line for each failed test of a file, or one for the file itself where it could not be loaded. */
function failuresOf(suite: string, file: Report['testResults'][number]): string[] {
  const name = `${suite}: ${relative(root, file.name)}`;
  const line = (words: string): string => (words.split('\n', 1)[0] ?? '').slice(0, 200);
  const failed = file.assertionResults.filter((test) => test.status === 'failed');
  if (failed.length === 0) return file.status === 'failed' ? [`${name}: ${line(file.message)}`] : [];
  return failed.map((test) => `${name}: ${test.fullName}: ${line(test.failureMessages[0] ?? '')}`);
}

/** A vitest suite, counted test by test; a suite that could not be loaded counts as one failure. */
async function vitest(suite: string, ...args: string[]): Promise<Outcome> {
  console.log(`\n== ${suite}`);
  return await timed(suite, async () => {
    const report = join(scratch, `${suite.replaceAll(' ', '-')}.json`);
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const status = await run('npx', ['--no-install', 'vitest', 'run', ...args, ...reporters]);
    if (!existsSync(report)) {
      failures.push(`${suite}: no report was written`);
      return { passed: 0, failed: 1 };
    }
    const counts = JSON.parse(readFileSync(report, 'utf8')) as Report;
    for (const file of counts.testResults) failures.push(...failuresOf(suite, file));
    const failed = Math.max(counts.numFailedTests, counts.numFailedTestSuites > 0 || status !== 0 ? 1 : 0);
    return { passed: counts.numPassedTests, failed };
  });
}

const outcomes = await scripts([
  ['format', 'format:check'],
  ['generated code', 'gen:check'],
  ['types', 'check'],
  ['lint', 'lint'],
  ['import rules', 'deps'],
]);
outcomes.push(await vitest('unit'));
outcomes.push(await vitest('wire', '--config', 'e2e/wire/vitest.config.ts'));
outcomes.push(await vitest('end to end', '--config', 'e2e/vitest.config.ts'));
outcomes.push(await check('demo', 'scripts/demo.sh'));
rmSync(scratch, { recursive: true, force: true });
console.log('');
for (const { suite, passed, failed, seconds } of outcomes) {
  console.log(
    `${suite.padEnd(16)} ${String(passed).padStart(5)} passed ${String(failed).padStart(4)} failed ${seconds.toFixed(1).padStart(8)} s`,
  );
}
const sum = (pick: (outcome: Outcome) => number): number =>
  outcomes.reduce((total, outcome) => total + pick(outcome), 0);
const failed = sum((outcome) => outcome.failed);
if (failures.length > 0) console.log(`\nFailed:\n${failures.map((line) => `  ${line}`).join('\n')}`);
console.log(`\n${sum((outcome) => outcome.passed)} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
