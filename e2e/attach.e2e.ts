import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { directSpawner } from '../base/index.ts';
import { Bed, Client, DOCKER, onTerminal, SHOAL, until, type Outcome, type TerminalStep } from './kit/index.ts';

/** Standard streams of containers and execs, through pipes and terminals. */
const bed = new Bed('attach');
let client: Client;

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 0, swarm: false });
  client = bed.client;
  await client.run('import', await bed.archive(), 'busybox:latest');
});
afterAll(() => bed.down());

const wait = (match: string): TerminalStep => ({ match });
const send = (type: string): TerminalStep => ({ type });
const size = (rows: number, columns: number): TerminalStep => ({ size: [rows, columns] });

/** A command of the client on a terminal: all that it shows, then a line with the exit code. */
async function terminal(args: readonly string[], ...steps: TerminalStep[]): Promise<string> {
  const program = client.program === 'docker' ? [DOCKER ?? 'docker'] : SHOAL;
  const env = { PATH: process.env.PATH ?? '', HOME: bed.file(''), DOCKER_HOST: client.host, TERM: 'xterm' };
  const { text, code, missing } = await onTerminal([...program, ...args], env, steps);
  if (missing !== null) throw new Error(`never came: ${missing} in ${JSON.stringify(text)}`);
  return `${text}\nexit ${code}\n`;
}

const run = (...args: string[]): Promise<Outcome> => client.try(['run', '--rm', ...args]);
const state = (name: string): Promise<string> => client.run('inspect', '--format', '{{.State.Status}}', name);

describe('pipes', () => {
  it('run prints what the command prints, apart, and ends with its code', async () => {
    const both = await run('busybox', 'sh', '-c', 'echo out; echo err >&2; exit 7');
    expect(both).toMatchObject({ code: 7, stdout: 'out\n', stderr: 'err\n' });
    const many = await Promise.all(Array.from({ length: 12 }, (_, i) => run('busybox', 'echo', `line ${i}`)));
    expect(many.map(({ stdout }) => stdout)).toEqual(many.map((_, i) => `line ${i}\n`));
    const missing = await run('busybox', 'nope');
    expect(missing.code).toBe(127);
    expect(missing.stderr).toMatch(/exec: "nope": executable file not found in \$PATH/);
    expect((await run('busybox', '/etc/passwd')).code).toBe(126);
  });

  it('run -i takes input to its end, and every byte of it', async () => {
    const input = Buffer.alloc(32 * 1024 * 1024, 'some text that repeats \n');
    const piped = await client.try(['run', '--rm', '-i', 'busybox', 'sha256sum'], { stdin: input });
    expect(piped.stdout).toBe(`${createHash('sha256').update(input).digest('hex')}  -\n`);
    const short = await client.try(['run', '--rm', '-i', 'busybox', 'head', '-n', '1'], { stdin: input });
    expect(short).toMatchObject({ code: 0, stdout: 'some text that repeats \n' });
  });

  it('passes 64 MB through, and the daemon stays small', async () => {
    const before = bed.daemonMb('m1');
    const counted = await directSpawner.run({
      file: 'sh',
      args: [
        '-c',
        `"$@" run --rm --log-driver none busybox dd if=/dev/zero bs=1M count=64 2>/dev/null | (sleep 1; wc -c)`,
      ].concat('sh', ...(client.program === 'docker' ? [DOCKER ?? ''] : SHOAL)),
      env: { PATH: process.env.PATH ?? '', DOCKER_HOST: client.host, HOME: bed.file('') },
    });
    expect(counted.stdout.toString('utf8').trim()).toBe(String(64 * 1024 * 1024));
    expect(bed.daemonMb('m1') - before).toBeLessThan(100);
  });

  it('start -ai joins before the start; signals pass through', async () => {
    await client.run('create', '-i', '--name', 'again', 'busybox', 'sh', '-c', 'read x; echo "got $x"; exit 2');
    for (const word of ['one', 'two']) {
      const started = await client.try(['start', '-ai', 'again'], { stdin: `${word}\n` });
      expect(started).toMatchObject({ code: 2, stdout: `got ${word}\n` });
    }
    const script = 'trap "echo told; exit 9" TERM; echo ready; while :; do sleep 0.05; done';
    const running = run('--name', 'signalled', 'busybox', 'sh', '-c', script);
    await until('its first line', 10_000, async () => (await client.run('logs', 'signalled')) === 'ready');
    await client.run('kill', '--signal', 'TERM', 'signalled');
    expect(await running).toMatchObject({ code: 9, stdout: 'ready\ntold\n' });
  });

  it('two clients see the same, and one that leaves ends nothing', async () => {
    const fifo = 'rm -f /go; mkfifo /go; cat /go; echo over';
    await client.run('run', '-d', '--name', 'shared', 'busybox', 'sh', '-c', `echo first; ${fifo}`);
    const attached = ['one', 'two'].map(() => client.try(['attach', '--no-stdin', 'shared']));
    const gone = directSpawner.run({
      file: 'timeout',
      args: ['-s', 'KILL', '0.5', ...(client.program === 'docker' ? [DOCKER ?? ''] : SHOAL), 'attach', 'shared'],
      env: { PATH: process.env.PATH ?? '', DOCKER_HOST: client.host, HOME: bed.file('') },
    });
    await gone;
    expect(await state('shared')).toBe('running');
    await client.run('exec', 'shared', 'sh', '-c', 'echo word > /go');
    for (const { stdout } of await Promise.all(attached)) expect(stdout).toBe('word\nover\n');
  });
});

describe('exec', () => {
  beforeAll(() => client.run('run', '-d', '--name', 'host', '-e', 'A=1', 'busybox', 'sleep', '1000'));

  it('has streams, codes and options as docker', async () => {
    const both = await client.try(['exec', 'host', 'sh', '-c', 'echo out; echo err >&2; exit 4']);
    expect(both).toMatchObject({ code: 4, stdout: 'out\n', stderr: 'err\n' });
    expect((await client.try(['exec', '-i', 'host', 'cat'], { stdin: 'in' })).stdout).toBe('in');
    const options = ['-u', 'nobody', '-w', '/tmp', '-e', 'B=2'];
    expect(await client.run('exec', ...options, 'host', 'sh', '-c', 'id -un; pwd; echo $A$B')).toBe('nobody\n/tmp\n12');
    const missing = await client.try(['exec', 'host', 'nope']);
    expect(missing.code).toBe(127);
    expect(`${missing.stdout}${missing.stderr}`).toMatch(
      /OCI runtime exec failed: .*"nope": executable file not found/,
    );
    expect((await client.try(['exec', 'host', '/etc/passwd'])).code).toBe(126);
    expect(await client.fails('exec', 'zz', 'true')).toContain('No such container: zz');
  });

  it('runs detached and is shown while it runs', async () => {
    await client.run('exec', '-d', 'host', 'sh', '-c', 'echo done > /tmp/detached');
    await until('its file', 5_000, async () => (await client.run('exec', 'host', 'cat', '/tmp/detached')) === 'done');
    const [facts] = JSON.parse(await client.run('inspect', 'host')) as { ExecIDs: string[] }[];
    const exec = await bed.api<{ Running: boolean; ExitCode: number }>(`/exec/${facts?.ExecIDs.at(-1)}/json`);
    expect(exec).toMatchObject({ Running: false, ExitCode: 0 });
    expect(await bed.status('/exec/zz/json')).toBe(404);
    // The client cuts the end to whole seconds: `0s` would leave out the running one.
    const soon = String(Math.floor(Date.now() / 1000) + 1);
    const since = ['events', '--since', '1m', '--until', soon, '--filter', 'container=host'];
    const lines = await client.lines(...since, '--format', '{{json .}}');
    const actions = lines.map((line) => {
      const event = JSON.parse(line) as { Action: string; Actor: { Attributes: { exitCode?: string } } };
      return `${event.Action} ${event.Actor.Attributes.exitCode ?? ''}`;
    });
    expect(actions).toEqual(
      expect.arrayContaining([
        expect.stringMatching(/^exec_create: sh -c echo out/),
        expect.stringMatching(/^exec_start: sh -c echo out/),
        'exec_die 4',
      ]),
    );
  });

  it('has a terminal that is resized and left by keys of its own', async () => {
    const text = await terminal(
      ['exec', '-it', 'host', 'sh'],
      ...[wait('# '), send('stty size\n'), wait('30 100\\r\\n')],
      ...[size(31, 99), send('while ! stty size | grep 31; do sleep 0.1; done\n'), wait('31 99\\r\\n')],
      send('exit 6\n'),
    );
    expect(text).toMatch(/exit 6\n$/);
    const left = await terminal(
      ['exec', '-it', '--detach-keys', 'ctrl-a,x', 'host', 'sh'],
      ...[wait('# '), send('echo $((40+2))\n'), wait('42\\r\\n'), send('\u0001'), send('x')],
    );
    expect(left).toMatch(/read escape sequence/);
    // The command goes on without its client.
    expect(await client.run('top', 'host')).toMatch(/\bsh\b/);
  });
});

describe('terminals', () => {
  it('run -it is left, found again, outlives the daemon, and ends with its code', async () => {
    const first = await terminal(
      ['run', '-it', '--name', 'shell', 'busybox', 'sh'],
      ...[wait('# '), send('stty size; tty\n'), wait('30 100\\r\\n/dev/pts/0\\r\\n')],
      ...[size(31, 98), send('while ! stty size | grep 31; do sleep 0.1; done\n'), wait('31 98\\r\\n')],
      ...[send('x=kept; echo $((41+1))\n'), wait('42\\r\\n'), send('\u0010\u0011')],
    );
    // docker run leaves without a word, docker exec and attach say so.
    expect(first).toMatch(/exit 0\n$/);
    expect(await state('shell')).toBe('running');
    await bed.lab.kill('m1');
    await bed.lab.start('m1');
    const last = await terminal(
      ['attach', 'shell'],
      ...[send('echo still $x\n'), wait('still kept\\r\\n'), send('exit 5\n')],
    );
    expect(last).toMatch(/exit 5\n$/);
    expect(await client.run('inspect', '--format', '{{.State.ExitCode}}', 'shell')).toBe('5');
  });
});
