import { directSpawner } from '../../base/index.ts';

/**
 * What a user at a terminal does: wait for a text, type, change the window's size, or leave the client a signal. Waits
 * for the end of the client are what follows the last step.
 */
export type TerminalStep =
  | { expect: string }
  /** A regular expression of Python. */
  | { match: string }
  | { type: string }
  | { size: readonly [rows: number, columns: number] }
  | { signal: number };

export interface TerminalEnd {
  /** Exit code, or the negative number of the signal that ended it. */
  code: number;
  /** All that the terminal showed. */
  text: string;
  /** Whether the terminal's settings are those from before. */
  restored: boolean;
  /** The text that was waited for in vain; null when all came. */
  missing: string | null;
}

/** A step or the end that takes longer has failed, ms. */
const STEP_TIMEOUT_MS = 10_000;

/** Plays the steps on a pseudo-terminal; node has none, Python's standard library does. */
const PLAYER = `
import fcntl, json, os, pty, re, select, signal, struct, sys, termios, time
job = json.loads(sys.stdin.read())
size = lambda fd, rows, columns: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
master, slave = pty.openpty()
size(master, *job['size'])
before = termios.tcgetattr(slave)
pid = os.fork()
if pid == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for fd in (0, 1, 2): os.dup2(slave, fd)
    os.closerange(3, 256)
    os.execvpe(job['command'][0], job['command'], job['env'])
shown, seen, missing, status = b'', 0, None, None
def read(wait):
    global shown
    if select.select([master], [], [], wait)[0]:
        shown += os.read(master, 65536)
        return True
    return False
def ended():
    global status
    if status is None:
        done, code = os.waitpid(pid, os.WNOHANG)
        if done: status = os.waitstatus_to_exitcode(code)
    return status is not None
for step in job['steps']:
    if 'expect' in step or 'match' in step:
        wanted = re.compile((step.get('match') or re.escape(step['expect'])).encode())
        limit = time.monotonic() + job['timeout']
        while not wanted.search(shown, seen) and time.monotonic() < limit:
            if not read(0.05) and ended(): break
        found = wanted.search(shown, seen)
        if not found:
            missing = step.get('match') or step['expect']
            break
        seen = found.end()
    elif 'type' in step: os.write(master, step['type'].encode())
    elif 'size' in step: size(master, *step['size'])
    elif 'signal' in step: os.kill(pid, step['signal'])
limit = time.monotonic() + job['timeout']
while not ended() and time.monotonic() < limit: read(0.05)
if not ended():
    os.kill(pid, signal.SIGKILL)
    missing = missing or 'the end'
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
while read(0.05): pass
after = termios.tcgetattr(slave)
print(json.dumps({'code': status, 'text': shown.decode('utf8', 'replace'), 'missing': missing,
                  'restored': before[:4] == after[:4]}))
`;

/** Runs a command on a terminal of 30 rows and 100 columns. */
export async function onTerminal(
  command: readonly string[],
  env: Readonly<Record<string, string>>,
  steps: readonly TerminalStep[],
): Promise<TerminalEnd> {
  const job = { command, env, steps, size: [30, 100], timeout: STEP_TIMEOUT_MS / 1000 };
  const timeoutMs = STEP_TIMEOUT_MS * (steps.length + 2);
  const result = await directSpawner.run({
    ...{ file: 'python3', args: ['-c', PLAYER], stdin: JSON.stringify(job), timeoutMs },
  });
  if (result.code !== 0) throw new Error(`the terminal's player failed: ${result.stderr.toString('utf8')}`);
  return JSON.parse(result.stdout.toString('utf8')) as TerminalEnd;
}
