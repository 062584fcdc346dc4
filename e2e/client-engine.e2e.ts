/** Containers of one host through our own client: streams, terminals, exit codes, copies. */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, Client, onTerminal, SHOAL, until, type TerminalEnd, type TerminalStep } from './kit/index.ts';

const bed = new Bed('client-engine');
let shoal: Client;

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  shoal = bed.on(bed.first, 'shoal');
  await shoal.run('import', await bed.archive(), 'box');
});
afterAll(() => bed.down());

const CTRL_C = '\u0003';
const CTRL_P = '\u0010';
const CTRL_Q = '\u0011';
const SIGTERM = 15;
const SIGHUP = 1;

function terminal(args: readonly string[], steps: readonly TerminalStep[]): Promise<TerminalEnd> {
  const env = { PATH: process.env['PATH'] ?? '', DOCKER_HOST: shoal.host, DOCKER_CONFIG: bed.file('none') };
  return onTerminal([...SHOAL, ...args], env, steps);
}

const OK = { missing: null, restored: true };
/** A prompt of busybox's shell, and the place where it waits for keys. */
const PROMPT = '# ';

describe('run', () => {
  it('tells outputs apart, gives the exit code, and leaves nothing behind with --rm', async () => {
    const ended = await shoal.try(['run', '--rm', 'box', 'sh', '-c', 'echo out; echo err >&2; exit 7']);
    expect(ended).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err\n' });
    expect(await shoal.lines('ps', '-aq')).toEqual([]);
  });

  it('tells 125, 126 and 127 apart', async () => {
    const codes = await Promise.all(
      [
        ['--pull', 'never', 'nosuch'],
        ['box', '/etc'],
        ['box', 'nosuch'],
      ].map((words) => shoal.try(['run', '--rm', ...words])),
    );
    expect(codes.map((one) => one.code)).toEqual([125, 126, 127]);
    expect(codes[2]?.stderr).toMatch(/^shoal: Error response from daemon: .*\n\nRun 'shoal run --help'/);
  });

  it('passes input to the process and its end too, whole at any size', async () => {
    const input = Buffer.alloc(5_000_000, 'shoal\n');
    const ended = await shoal.try(['run', '-i', '--rm', 'box', 'sh', '-c', 'cat; echo end >&2'], { stdin: input });
    expect(ended).toMatchObject({ code: 0, stderr: 'end\n' });
    expect(ended.stdout.length).toBe(input.length);
  });

  it('keeps a session on a terminal: sizes, keys, exit code, and gives the terminal back', async () => {
    const ended = await terminal(
      ['run', '-it', '--rm', 'box', 'sh'],
      [
        { expect: PROMPT },
        { type: 'stty size\r' },
        { expect: '30 100' },
        { expect: PROMPT },
        { size: [40, 120] },
        { type: 'while [ "$(stty size)" != "40 120" ]; do :; done; echo resi""zed\r' },
        { expect: 'resized' },
        { type: `sh -c 'echo be""gun; exec sleep 100'\r` },
        { expect: 'begun' },
        { type: CTRL_C },
        { expect: PROMPT },
        { type: 'exit 5\r' },
      ],
    );
    expect(ended).toMatchObject({ ...OK, code: 5 });
    // Line ends come as the process's terminal made them.
    expect(ended.text).not.toContain('\r\r\n');
  });

  it('passes signals on, and ends at the third that the process does not heed', async () => {
    const script = 'trap "echo heard; exit 4" INT; echo ready; while :; do sleep 0.1; done';
    const heard = await terminal(['run', '--rm', 'box', 'sh', '-c', script], [{ expect: 'ready' }, { type: CTRL_C }]);
    expect(heard).toMatchObject({ ...OK, code: 4 });
    expect(heard.text).toContain('heard');
    const deaf = 'trap "echo heard" INT; echo ready; while :; do sleep 0.1; done';
    const forced = await terminal(
      ['run', '--rm', '--name', 'deaf', 'box', 'sh', '-c', deaf],
      [
        ...[{ expect: 'ready' }, { type: CTRL_C }, { expect: 'heard' }, { type: CTRL_C }, { expect: 'heard' }],
        { type: CTRL_C },
      ],
    );
    expect(forced).toMatchObject({ ...OK, code: 1 });
    expect(forced.text).toContain('got 3 SIGTERM/SIGINTs, forcefully exiting');
    await shoal.run('rm', '-f', 'deaf');
  });
});

describe('attach and exec', () => {
  it('detaches and attaches again, by the usual keys and by others', async () => {
    const keys = CTRL_P + CTRL_Q;
    const first = await terminal(['run', '-it', '--name', 'tt', 'box', 'sh'], [{ expect: PROMPT }, { type: keys }]);
    expect(first).toMatchObject({ ...OK, code: 0 });
    expect(await shoal.run('inspect', '--format', '{{.State.Running}}', 'tt')).toBe('true');
    const second = await terminal(
      ['attach', '--detach-keys', 'ctrl-x,q', 'tt'],
      [{ type: 'echo at""tached\r' }, { expect: 'attached' }, { type: '\u0018q' }],
    );
    expect(second).toMatchObject({ ...OK, code: 1 });
    expect(second.text).toContain('read escape sequence');
    await shoal.run('stop', '-t', '0', 'tt');
    const restarted = await terminal(['start', '-ai', 'tt'], [{ type: 'exit 6\r' }]);
    expect(restarted).toMatchObject({ ...OK, code: 6 });
  });

  it('runs commands beside the first, with their input, variables and codes', async () => {
    await shoal.run('run', '-d', '--name', 'ex', 'box', 'sleep', '1000');
    expect(await shoal.run('exec', '-e', 'A=1', '-w', '/tmp', 'ex', 'sh', '-c', 'echo $A $PWD')).toBe('1 /tmp');
    expect((await shoal.try(['exec', '-i', 'ex', 'cat'], { stdin: 'given' })).stdout).toBe('given');
    expect((await shoal.try(['exec', 'ex', 'sh', '-c', 'exit 3'])).code).toBe(3);
    const typed = await terminal(['exec', '-it', 'ex', 'sh'], [{ expect: PROMPT }, { type: 'exit 9\r' }]);
    expect(typed).toMatchObject({ ...OK, code: 9 });
    const piped = await shoal.try(['exec', '-it', 'ex', 'sh'], { stdin: '' });
    expect(piped).toMatchObject({ code: 1, stderr: 'the input device is not a TTY\n' });
  });

  it('gives the terminal back also when a signal ends it', async () => {
    for (const signal of [SIGTERM, SIGHUP]) {
      const ended = await terminal(['exec', '-it', 'ex', 'sh'], [{ expect: PROMPT }, { signal }]);
      expect(ended).toMatchObject({ ...OK, code: -signal });
    }
  });
});

describe('files', () => {
  it('copies both ways by the rules of cp -a', async () => {
    mkdirSync(bed.file('tree/sub'), { recursive: true });
    writeFileSync(bed.file('tree/a'), 'first');
    writeFileSync(bed.file('tree/sub/b'), 'second');
    await shoal.run('cp', bed.file('tree'), 'ex:/copy');
    await shoal.run('cp', `${bed.file('tree')}/.`, 'ex:/copy/inner');
    expect(await shoal.lines('exec', 'ex', 'find', '/copy', '-type', 'f')).toEqual(
      expect.arrayContaining(['/copy/a', '/copy/sub/b', '/copy/inner/a', '/copy/inner/sub/b']),
    );
    await shoal.run('cp', 'ex:/copy/inner', bed.file('back'));
    expect(readdirSync(bed.file('back')).toSorted()).toEqual(['a', 'sub']);
    await shoal.run('cp', 'ex:/copy/sub/b', bed.file('renamed'));
    expect(readFileSync(bed.file('renamed'), 'utf8')).toBe('second');
    const archive = await shoal.try(['cp', 'ex:/copy', '-']);
    const put = await shoal.try(['cp', '-', 'ex:/tmp'], { stdin: archive.stdout });
    expect(put.code).toBe(0);
    expect(await shoal.run('exec', 'ex', 'cat', '/tmp/copy/sub/b')).toBe('second');
    expect(await shoal.fails('cp', 'ex:/nosuch', bed.file('x'))).toContain('Could not find the file /nosuch');
    expect(await shoal.fails('cp', bed.file('tree/a'), 'ex:/none/')).toBe('no such directory');
  });

  it('shows what changed, and exports it', async () => {
    expect(await shoal.lines('diff', 'ex')).toContain('A /copy/sub/b');
    await shoal.run('export', '-o', bed.file('all.tar'), 'ex');
    expect(readFileSync(bed.file('all.tar')).includes('copy/sub/b')).toBe(true);
    expect(await shoal.fails('export', '-o', bed.file('none/all.tar'), 'ex')).toContain('failed to export container');
  });
});

describe('the life of containers', () => {
  it('pauses, renames, limits, restarts, looks inside and removes', async () => {
    expect(await shoal.run('pause', 'ex')).toBe('ex');
    expect(await shoal.run('ps', '--format', '{{.Status}}', '--filter', 'name=ex')).toContain('(Paused)');
    expect(await shoal.run('unpause', 'ex')).toBe('ex');
    await shoal.run('rename', 'ex', 'renamed');
    await shoal.run('update', '--memory', '64m', '--memory-swap', '-1', 'renamed');
    expect(await shoal.run('inspect', '--format', '{{.HostConfig.Memory}}', 'renamed')).toBe('67108864');
    expect((await shoal.lines('top', 'renamed', '-o', 'pid,comm'))[0]).toMatch(/^PID +COMMAND/);
    expect(await shoal.run('stats', '--no-stream', '--format', '{{.Name}} {{.PIDs}}', 'renamed')).toMatch(
      /^renamed \d+$/,
    );
    const before = await shoal.run('inspect', '--format', '{{.State.Pid}}', 'renamed');
    await shoal.run('restart', '-t', '0', 'renamed');
    expect(await shoal.run('inspect', '--format', '{{.State.Pid}}', 'renamed')).not.toBe(before);
    const waiting = shoal.run('wait', 'renamed');
    await until('the wait', 5_000, async () => (await shoal.try(['kill', 'renamed'])).code === 0);
    expect(await waiting).toBe('137');
    const removed = await shoal.try(['rm', '-f', 'renamed', 'nosuch']);
    expect(removed).toMatchObject({ code: 0, stdout: 'renamed\n' });
    expect(removed.stderr).toContain('No such container: nosuch');
  });
});
