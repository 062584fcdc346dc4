/** Runs every suite, adds up what passed and failed, and ends with the one line that CI reads. */
import { spawnSync } from 'node:child_process';
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

function run(file: string, args: readonly string[]): number {
  const result = spawnSync(file, args, { cwd: root, stdio: ['ignore', 'inherit', 'inherit'] });
  if (result.error !== undefined) console.error(`${file}: ${result.error.message}`);
  return result.status ?? 1;
}

function timed(suite: string, body: () => { passed: number; failed: number }): Outcome {
  console.log(`\n== ${suite}`);
  const began = performance.now();
  return { suite, ...body(), seconds: (performance.now() - began) / 1000 };
}

/** A command that passes or fails as one. */
function check(suite: string, file: string, ...args: string[]): Outcome {
  return timed(suite, () => {
    if (run(file, args) === 0) return { passed: 1, failed: 0 };
    failures.push(suite);
    return { passed: 0, failed: 1 };
  });
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
function vitest(suite: string, ...args: string[]): Outcome {
  return timed(suite, () => {
    const report = join(scratch, `${suite.replaceAll(' ', '-')}.json`);
    const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
    const status = run('npx', ['--no-install', 'vitest', 'run', ...args, ...reporters]);
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

const suites: (() => Outcome)[] = [
  () => check('generated code', 'npm', 'run', '-s', 'gen:check'),
  () => check('format', 'npm', 'run', '-s', 'format:check'),
  () => check('types', 'npm', 'run', '-s', 'check'),
  () => check('lint', 'npm', 'run', '-s', 'lint'),
  () => check('import rules', 'npm', 'run', '-s', 'deps'),
  () => vitest('unit'),
  () => vitest('wire', '--config', 'e2e/wire/vitest.config.ts'),
  () => vitest('end to end', '--config', 'e2e/vitest.config.ts'),
  () => check('demo', 'scripts/demo.sh'),
];

const outcomes = suites.map((suite) => suite());
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
