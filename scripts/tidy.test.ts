/** House rules as a test: lengths with a ratchet, leftovers, documents that must agree with the code. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { VERSION } from '../daemon/version.ts';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const FUNCTION_LINES_MAX = 70;
const FILE_LINES_MAX = 400;
const ROOM_README_LINES_MAX = 40;

const ROOMS = [
  'base',
  'proto',
  'raft',
  'scheduler',
  'overlay-net',
  'identity',
  'engine',
  'manager',
  'worker',
  'api',
  'cli',
  'daemon',
  'lab',
];

/** Files that are longer than the aim; the number may only go down. */
const LONG_FILES: Readonly<Record<string, number>> = {
  'identity/x509.ts': 405,
  'overlay-net/host-network.ts': 478,
};
/** Functions (file:name) that are longer than the rule; the number may only go down. */
const LONG_FUNCTIONS: Readonly<Record<string, number>> = {};

function files(): string[] {
  const tracked = execFileSync('git', ['ls-files', '--cached', '--others', '--exclude-standard'], { cwd: root });
  return tracked
    .toString()
    .split('\n')
    .filter((file) => file !== '' && existsSync(join(root, file)));
}

const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const sources = files().filter(
  (file) => file.endsWith('.ts') && !file.startsWith('proto/gen/') && !file.startsWith('ui/'),
);
const product = sources.filter((file) => !/\.test\.ts$|\/testing(\.ts|\/)|^e2e\/|^bench\//.test(file));

/** Functions of formatted code: a head that ends in `{`, and the next line of the same indent that closes it. */
function* functions(text: string): Generator<{ name: string; lines: number }> {
  const lines = text.split('\n');
  const head =
    /^(\s*)(?:export )?(?:default )?(?:(?:private |protected |static |override |async )*(?:function\*? )?([#\w$]+)\s*(?:<[^(]*>)?\(.*|(?:const|let) ([\w$]+)[^=]*= (?:async )?(?:\(.*|function.*))$/;
  for (let i = 0; i < lines.length; i++) {
    const match = head.exec(lines[i] ?? '');
    const name = match?.[2] ?? match?.[3];
    if (
      match === null ||
      name === undefined ||
      ['if', 'for', 'while', 'switch', 'return', 'describe', 'it', 'catch'].includes(name)
    )
      continue;
    const indent = match[1] ?? '';
    // A head stands on one line, or opens its parameters on one and closes them on a line of the same indent.
    let begin = i;
    if ((lines[i] ?? '').endsWith('(')) {
      do begin++;
      while (begin < lines.length && !(lines[begin] ?? '').startsWith(`${indent})`));
    }
    if (!(lines[begin] ?? '').endsWith('{')) continue;
    let end = begin + 1;
    while (end < lines.length && !(lines[end] ?? '').startsWith(`${indent}}`)) end++;
    yield { name, lines: end - i + 1 };
  }
}

describe('tidy', () => {
  it('keeps files short', () => {
    const long = product
      .map((file) => ({ file, lines: read(file).split('\n').length - 1 }))
      .filter(({ file, lines }) => lines > (LONG_FILES[file] ?? FILE_LINES_MAX));
    expect(long).toEqual([]);
  });

  it('keeps functions short', () => {
    const long = product.flatMap((file) =>
      [...functions(read(file))]
        .filter(({ name, lines }) => lines > (LONG_FUNCTIONS[`${file}:${name}`] ?? FUNCTION_LINES_MAX))
        .map(({ name, lines }) => `${file}:${name} has ${lines} lines`),
    );
    expect(long).toEqual([]);
  });

  it('finds functions at all', () => {
    const text =
      'function a() {\n  b();\n}\nclass X {\n  async #c(\n    d: number,\n  ): Promise<void> {\n    d;\n  }\n}\n';
    expect([...functions(text)]).toEqual([
      { name: 'a', lines: 3 },
      { name: '#c', lines: 5 },
    ]);
  });

  it('leaves nothing unfinished', () => {
    const marks = new RegExp(
      ['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'not imple' + 'mented'].map((word) => `\\b${word}\\b`).join('|'),
    );
    expect(product.filter((file) => marks.test(read(file)))).toEqual([]);
    expect(
      sources.filter((file) =>
        /\b(it|test|describe)\.(skip|only|todo)\b/.test(read(file).replace(/\(it\|test.*$/m, '')),
      ),
    ).toEqual([]);
  });

  it('gives every room an index and a short README', () => {
    for (const room of ROOMS) {
      expect(existsSync(join(root, room, 'index.ts')), `${room}/index.ts`).toBe(true);
      expect(existsSync(join(root, room, 'README.md')), `${room}/README.md`).toBe(true);
      expect(read(`${room}/README.md`).split('\n').length - 1, `${room}/README.md`).toBeLessThanOrEqual(
        ROOM_README_LINES_MAX,
      );
    }
  });

  it('keeps pure rooms free of clock, randomness and process', () => {
    const pure = product.filter((file) =>
      /^(raft\/core\/|scheduler\/|overlay-net\/plan\.ts|worker\/task-machine\.ts|manager\/store\/apply\.ts)/.test(file),
    );
    expect(pure.length).toBeGreaterThan(10);
    const impure =
      /\b(Date\.now|Math\.random|setTimeout|setInterval|performance\.now|process\.)\b|from 'node:(?!assert)/;
    expect(pure.filter((file) => impure.test(read(file).replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, '')))).toEqual([]);
  });

  it('pins every dependency and names no registry', () => {
    const manifest = JSON.parse(read('package.json')) as Record<string, Record<string, string>> & { version: string };
    const versions = Object.values({ ...manifest['dependencies'], ...manifest['devDependencies'] });
    expect(versions.filter((version) => !/^\d+\.\d+\.\d+$/.test(version))).toEqual([]);
    expect(read('package-lock.json')).not.toMatch(/"resolved": *"http/);
    expect(manifest.version).toBe(VERSION);
  });

  it('has a changelog whose first section is what comes next', () => {
    const heads = read('CHANGELOG.md')
      .split('\n')
      .filter((line) => line.startsWith('## '));
    expect(heads[0]).toBe('## [Unreleased]');
    expect(read('CHANGELOG.md')).toContain(`## [${VERSION}]`);
  });
});
