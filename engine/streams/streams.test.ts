import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { silentLogger, systemClock } from '../../base/index.ts';
import { config, logText, makeFixture, until, type Fixture } from '../containers/fixture.ts';
import type { Engine } from '../engine.ts';
import type { Attached, AttachRequest, ContainerConfig, ExecCreateRequest } from '../types.ts';
import { CLIENT_BUFFER_MAX_BYTES } from './client.ts';
import { StreamHub } from './hub.ts';

let fixture: Fixture;
let engine: Engine;
const never = new AbortController().signal;
const ALL: AttachRequest = { stdin: true, stdout: true, stderr: true, logs: false, stream: true, detachKeys: '' };
const TIMEOUT_MS = 60_000;

beforeAll(async () => {
  fixture = makeFixture();
  engine = await fixture.open();
}, TIMEOUT_MS);

afterAll(async () => {
  await fixture.destroy();
}, TIMEOUT_MS);

async function create(cmd: readonly string[], more: Partial<ContainerConfig> = {}): Promise<string> {
  return (await engine.containers.create(config({ cmd, ...more }))).id;
}

async function readAll(attached: Attached): Promise<{ stdout: string; stderr: string }> {
  const text = { stdout: '', stderr: '' };
  for await (const batch of attached.output()) {
    for (const { stream, data } of batch) text[stream] += Buffer.from(data).toString('latin1');
  }
  return text;
}

/** Reads on until what came fits; the rest goes on being read by the next call. */
function reader(attached: Attached): { until: (pattern: RegExp) => Promise<string> } {
  const batches = attached.output()[Symbol.asyncIterator]();
  let text = '';
  return {
    until: async (pattern) => {
      while (!pattern.test(text)) {
        const next = await batches.next();
        if (next.done === true) throw new Error(`ended with ${JSON.stringify(text)}, not ${pattern.source}`);
        for (const { data } of next.value) text += Buffer.from(data).toString('latin1');
      }
      const all = text;
      text = '';
      return all;
    },
  };
}

/** A process that writes stands still when all buffers are full. */
async function standsStill(id: string): Promise<void> {
  let before = -1;
  await until(async () => {
    const now = engine.containers.usage(id)?.cpuNs ?? 0;
    const still = now === before && now > 0;
    before = now;
    await systemClock.sleep(300);
    return still;
  }, 'a process that waits');
}

const attach = (id: string, more: Partial<AttachRequest> = {}): Promise<Attached> =>
  engine.terminals.attach(id, { ...ALL, ...more }, never);

describe('attach', () => {
  it(
    'misses nothing of the shortest process, 50 times',
    async () => {
      for (let i = 0; i < 50; i++) {
        const id = await create(['echo', `line ${i}`], { autoRemove: true });
        const attached = await attach(id);
        const gone = engine.containers.wait(id, 'removed', never);
        await engine.containers.start(id);
        expect(await readAll(attached)).toEqual({ stdout: `line ${i}\n`, stderr: '' });
        await gone;
      }
    },
    TIMEOUT_MS * 2,
  );

  it('keeps stderr apart from stdout, and gives only what was asked for', async () => {
    const id = await create(['sh', '-c', 'echo out; echo err >&2']);
    const both = await attach(id);
    const errors = await attach(id, { stdout: false });
    await engine.containers.start(id);
    expect(await readAll(both)).toEqual({ stdout: 'out\n', stderr: 'err\n' });
    expect(await readAll(errors)).toEqual({ stdout: '', stderr: 'err\n' });
  });

  it('joins at any moment of a start', async () => {
    const rounds = Array.from({ length: 12 }, async (_, i) => {
      const id = await create(['sh', '-c', 'sleep 1; echo late']);
      const started = engine.containers.start(id);
      await systemClock.sleep(i * 15);
      const attached = await attach(id);
      await started;
      return (await readAll(attached)).stdout;
    });
    expect(await Promise.all(rounds)).toEqual(rounds.map(() => 'late\n'));
  });

  it('ends standard input with the client when it is held for one, and output goes on', async () => {
    const id = await create(['sh', '-c', 'cat; echo done'], { openStdin: true, stdinOnce: true });
    const attached = await attach(id);
    const typed = attached.write(Buffer.from('early\n')).then(() => attached.endInput());
    await engine.containers.start(id);
    await typed;
    expect((await readAll(attached)).stdout).toBe('early\ndone\n');
  });

  it('leaves standard input open for one client after another', async () => {
    const id = await create(['cat'], { openStdin: true });
    await engine.containers.start(id);
    for (const word of ['one', 'two']) {
      const attached = await attach(id);
      await attached.write(Buffer.from(`${word}\n`));
      await reader(attached).until(new RegExp(word));
      attached.close();
    }
    expect(engine.containers.inspect(id).state).toBe('running');
    await engine.containers.remove(id, { force: true, volumes: true });
  });

  it('gives every client all of it, also a slow one, and waits rather than loses', async () => {
    const id = await create(['sh', '-c', 'seq 1 400000'], { logDriver: { type: 'none', config: {} } });
    const clients = [await attach(id), await attach(id)];
    await engine.containers.start(id);
    const sums = await Promise.all(
      clients.map(async (client, slow) => {
        const hash = createHash('sha256');
        let batches = 0;
        for await (const batch of client.output()) {
          for (const { data } of batch) hash.update(data);
          if (slow === 1 && ++batches % 8 === 0) await systemClock.sleep(10);
        }
        return hash.digest('hex');
      }),
    );
    const whole = createHash('sha256');
    for (let i = 1; i <= 400000; i++) whole.update(`${i}\n`);
    const want = whole.digest('hex');
    expect(sums).toEqual([want, want]);
  });

  it('does not hold up the end for a client that takes nothing', async () => {
    const id = await create(['yes'], { logDriver: { type: 'none', config: {} } });
    const attached = await attach(id);
    await engine.containers.start(id);
    await standsStill(id);
    await engine.containers.stop(id, { graceMs: 0 });
    expect(engine.containers.inspect(id).exitCode).toBe(137);
    const { stdout } = await readAll(attached);
    expect(stdout.length).toBeGreaterThan(CLIENT_BUFFER_MAX_BYTES);
    expect(stdout.length).toBeLessThan(3 * CLIENT_BUFFER_MAX_BYTES);
    expect(/^(y\n)+y?$/.test(stdout)).toBe(true);
  });

  it('takes only so much of what an ended process left behind', async () => {
    const id = await create(['yes'], { logDriver: { type: 'none', config: {} } });
    await engine.containers.start(id);
    const hub = new StreamHub({ clock: systemClock, log: silentLogger });
    hub.connect(join(fixture.base, 'run/bundles', id), { tty: false, stdinOnce: false, alive: () => false });
    const attached = hub.attach({ stdin: false, stdout: true, stderr: true }, false, new Uint8Array());
    await until(() => attached.ended === 'stuck', 'the bound');
    // Nobody is waited for.
    await engine.containers.remove(id, { force: true, volumes: true });
    hub.end();
  });

  it('cuts off a guest that takes nothing, for the others', async () => {
    const id = await create(['yes'], { logDriver: { type: 'none', config: {} } });
    await engine.containers.start(id);
    const hub = new StreamHub({ clock: systemClock, log: silentLogger, stuckClientMs: 300 });
    hub.connect(join(fixture.base, 'run/bundles', id), { tty: false, stdinOnce: false, alive: () => true });
    const wants = { stdin: false, stdout: true, stderr: true };
    const stuck = hub.attach(wants, false, new Uint8Array());
    const good = hub.attach(wants, false, new Uint8Array());
    let bytes = 0;
    for await (const batch of good.output()) {
      for (const { data } of batch) bytes += data.length;
      if (stuck.ended !== undefined && bytes > 4 * CLIENT_BUFFER_MAX_BYTES) break;
    }
    expect(stuck.ended).toBe('stuck');
    expect(good.ended).toBeUndefined();
    hub.end();
    await engine.containers.remove(id, { force: true, volumes: true });
  });

  it('keeps output that arrived before the connection was reset by unread input', async () => {
    for (let i = 0; i < 10; i++) {
      const id = await create(['sh', '-c', 'head -c 1 >/dev/null; seq 1 5000'], { openStdin: true, stdinOnce: true });
      const attached = await attach(id);
      await engine.containers.start(id);
      const typing = attached.write(Buffer.alloc(1024 * 1024)).then(() => attached.endInput());
      const { stdout } = await readAll(attached);
      expect(stdout.endsWith('\n5000\n')).toBe(true);
      await typing;
    }
  });

  it('replays the log first when asked', async () => {
    const id = await create(['sh', '-c', 'echo before; cat'], { openStdin: true, stdinOnce: true });
    await engine.containers.start(id);
    await until(async () => (await logText(engine, id)).out === 'before\n', 'the first line');
    const attached = await attach(id, { logs: true });
    // Lines of the very millisecond come twice.
    await systemClock.sleep(3);
    await attached.write(Buffer.from('after\n'));
    await attached.endInput();
    expect((await readAll(attached)).stdout).toBe('before\nafter\n');
    const only = await attach(id, { logs: true, stream: false });
    expect((await readAll(only)).stdout).toBe('before\nafter\n');
  });

  it('tells clients of a start that failed', async () => {
    const id = await create(['nope']);
    const attached = await attach(id);
    await expect(engine.containers.start(id)).rejects.toThrow(/executable file not found/);
    expect(await readAll(attached)).toEqual({ stdout: '', stderr: '' });
    expect(attached.ended).toBe('process ended');
  });

  it('refuses in Docker words', async () => {
    await expect(attach('zz')).rejects.toThrow('No such container: zz');
    const id = await create(['true']);
    await expect(attach(id, { detachKeys: 'ctrl-p,wrong' })).rejects.toThrow(
      'Invalid detach keys (ctrl-p,wrong) provided',
    );
    await expect(engine.terminals.resize(id, { height: 1, width: 1 })).rejects.toThrow(
      `container ${id} is not running`,
    );
  });
});

describe('a terminal', () => {
  it('has the size of its creation, is left by keys, and outlives the daemon', async () => {
    const events: string[] = [];
    void (async () => {
      for await (const event of engine.events.subscribe()) events.push(event.action);
    })();
    const id = await create(['sh'], { tty: true, openStdin: true, stdinOnce: true, consoleSize: [12, 34] });
    const first = await attach(id);
    await engine.containers.start(id);
    const output = reader(first);
    await first.write(Buffer.from('busybox stty size\n'));
    await output.until(/12 34\r\n/);
    await engine.terminals.resize(id, { height: 20, width: 44 });
    await until(async () => {
      await first.write(Buffer.from('busybox stty size; echo over\n'));
      return /20 44/.test(await output.until(/\d+ \d+\r\nover/));
    }, 'the new size');
    await first.write(Uint8Array.of(0x10));
    await first.write(Uint8Array.of(0x11, 0x20));
    await expect(output.until(/never/)).rejects.toThrow('ended');
    expect(first.ended).toBe('detached');
    expect(engine.containers.inspect(id).state).toBe('running');
    await until(() => events.includes('detach'), 'the event');
    expect(events).toEqual(expect.arrayContaining(['attach', 'resize', 'detach']));

    await engine.shutdown();
    engine = await fixture.open();
    const again = await attach(id, { detachKeys: 'a,b' });
    const more = reader(again);
    await again.write(Buffer.from('echo still; echo $((40+2))\n'));
    await more.until(/still\r\n42\r\n/);
    await again.write(Buffer.from('ab'));
    await expect(more.until(/never/)).rejects.toThrow('ended');
    const last = await attach(id);
    await last.write(Buffer.from('exit 3\n'));
    await readAll(last);
    expect((await engine.containers.wait(id, 'not-running', never)).exitCode).toBe(3);
  });
});

const EXEC: ExecCreateRequest = {
  command: [],
  env: [],
  privileged: false,
  tty: false,
  attachStdin: false,
  attachStdout: true,
  attachStderr: true,
  detachKeys: '',
};

async function exec(id: string, command: readonly string[], more: Partial<ExecCreateRequest> = {}) {
  const execId = await engine.terminals.createExec(id, { ...EXEC, command, ...more });
  const attached = await engine.terminals.startExec(execId, { detach: false });
  if (attached === undefined) throw new Error('not attached');
  return { execId, attached };
}

describe('exec', () => {
  let id = '';
  beforeAll(async () => {
    id = await create(['sleep', '1000']);
    await engine.containers.start(id);
  });

  it('gives output, exit code and what docker inspect shows', async () => {
    for (let i = 0; i < 20; i++) {
      const { execId, attached } = await exec(id, ['sh', '-c', 'echo out; echo err >&2; exit 3']);
      expect(await readAll(attached)).toEqual({ stdout: 'out\n', stderr: 'err\n' });
      expect(engine.terminals.inspectExec(execId)).toMatchObject({ running: false, exitCode: 3, containerId: id });
    }
    expect(engine.terminals.execIds(id)).toHaveLength(20);
  });

  it('passes input on to its end', async () => {
    const { attached } = await exec(id, ['sh', '-c', 'cat; echo end'], { attachStdin: true });
    await attached.write(Buffer.from('in\n'));
    await attached.endInput();
    expect((await readAll(attached)).stdout).toBe('in\nend\n');
  });

  it('has a terminal with a size that changes', async () => {
    const size = { consoleSize: { height: 10, width: 33 } };
    const { execId, attached } = await exec(id, ['sh'], { tty: true, attachStdin: true, ...size });
    const output = reader(attached);
    await attached.write(Buffer.from('busybox stty size\n'));
    await output.until(/10 33/);
    await engine.terminals.resizeExec(execId, { height: 20, width: 44 });
    await until(async () => {
      await attached.write(Buffer.from('busybox stty size; echo over\n'));
      return /20 44/.test(await output.until(/\d+ \d+\r\nover/));
    }, 'the new size');
    await attached.write(Buffer.from('exit 5\n'));
    await expect(output.until(/never/)).rejects.toThrow('ended');
    expect(engine.terminals.inspectExec(execId).exitCode).toBe(5);
  });

  it('takes a long paste on a terminal, echoed or not', async () => {
    const raw = ['sh', '-c', 'busybox stty raw -echo; echo go; head -c 200000 | wc -c'];
    const echoed = ['sh', '-c', 'echo go; head -n 3000 | wc -l'];
    const line = Buffer.from(`${'x'.repeat(60)}\n`);
    for (const [command, paste, want] of [
      [raw, Buffer.alloc(200_000, 'y'), /200000\s/],
      [echoed, Buffer.concat(Array.from({ length: 3000 }, () => line)), /\n3000\r\n/],
    ] as const) {
      const { attached } = await exec(id, command, { tty: true, attachStdin: true });
      const output = reader(attached);
      await output.until(/go/);
      const pasted = attached.write(paste);
      await output.until(want);
      await pasted;
      await expect(output.until(/never/)).rejects.toThrow('ended');
    }
  });

  it('tells why a command cannot be started, with 127 and 126', async () => {
    const missing = await exec(id, ['nope']);
    expect((await readAll(missing.attached)).stdout).toMatch(
      /^OCI runtime exec failed: exec failed: .*"nope": executable file not found in \$PATH: unknown\r\n$/,
    );
    expect(engine.terminals.inspectExec(missing.execId).exitCode).toBe(127);
    const wrong = await exec(id, ['/bin/not-a-program']);
    expect((await readAll(wrong.attached)).stdout).toMatch(/permission denied/);
    expect(engine.terminals.inspectExec(wrong.execId).exitCode).toBe(126);
    const user = await exec(id, ['true'], { user: 'nobody-here' });
    expect((await readAll(user.attached)).stdout).toMatch(/unable to find user nobody-here/);
  });

  it('runs detached, and once only', async () => {
    const execId = await engine.terminals.createExec(id, { ...EXEC, command: ['sleep', '0.2'] });
    expect(await engine.terminals.startExec(execId, { detach: true })).toBeUndefined();
    expect(engine.terminals.inspectExec(execId)).toMatchObject({ running: true, exitCode: undefined });
    await expect(engine.terminals.startExec(execId, { detach: true })).rejects.toThrow('is already running');
    await until(() => !engine.terminals.inspectExec(execId).running, 'the end');
    expect(engine.terminals.inspectExec(execId).exitCode).toBe(0);
    await expect(engine.terminals.startExec(execId, { detach: true })).rejects.toThrow('has already run');
    await expect(engine.terminals.startExec('zz', { detach: true })).rejects.toThrow('No such exec instance: zz');
  });

  it('ends with its container', async () => {
    const { execId, attached } = await exec(id, ['sleep', '1000']);
    await until(() => engine.terminals.inspectExec(execId).pid > 0, 'its start');
    await engine.containers.kill(id, 'KILL');
    await readAll(attached);
    expect(engine.terminals.inspectExec(execId).exitCode).toBe(137);
    await until(() => engine.containers.inspect(id).state === 'exited', 'the end');
    await expect(exec(id, ['true'])).rejects.toThrow(`container ${id} is not running`);
  });
});
