import { spawn } from 'node:child_process';
import { systemClock } from '../../base/index.ts';

/** A program that shows no prompt in this time will not: what is to be typed is typed, ms. */
const PROMPT_TIMEOUT_MS = 1_000;
const POLL_MS = 20;
const ESCAPE = String.fromCharCode(27);
/** Ends of output that ask for input: a shell's prompt as it stands before or after terminal sequences. */
const PROMPT = new RegExp(`[#$] (?:${ESCAPE}\\[[0-9;]*n)?$`);

export interface TerminalOutcome {
  code: number;
  output: string;
}

/** What is sent for a line of a page: keys such as `^P^Q`, or the text with Enter. */
function keysOf(line: string): string {
  if (!/^(\^[A-Z])+$/.test(line)) return `${line}\r`;
  return line.replaceAll(/\^([A-Z])/g, (_all, key: string) => String.fromCharCode(key.charCodeAt(0) - 64));
}

/**
 * Runs a command with a terminal of its own (script of util-linux) and types lines into it, each after a prompt.
 * @param command words before the command line, such as those that enter a host
 * @returns exit code, and all that the terminal showed; it is killed after `timeoutMs` (exit code -1)
 */
export async function atTerminal(
  command: readonly string[],
  line: string,
  typed: readonly string[],
  more: { env: Readonly<Record<string, string>>; cwd: string; timeoutMs: number },
): Promise<TerminalOutcome> {
  const words = [...command, 'script', '-qec', line, '/dev/null'];
  const child = spawn('env', words, { env: more.env, cwd: more.cwd, stdio: ['pipe', 'pipe', 'inherit'] });
  let output = '';
  let fresh = 0;
  let code: number | undefined;
  child.stdout.on('data', (data: Buffer) => (output += data.toString('utf8')));
  child.stdin.on('error', () => undefined);
  child.on('close', (status) => (code = status ?? -1));
  const began = systemClock.monotonic();
  const goesOn = (): boolean => code === undefined && systemClock.monotonic() - began < more.timeoutMs;
  for (const text of typed) {
    const asked = systemClock.monotonic();
    while (goesOn() && !PROMPT.test(output.slice(fresh)) && systemClock.monotonic() - asked < PROMPT_TIMEOUT_MS) {
      await systemClock.sleep(POLL_MS);
    }
    fresh = output.length;
    child.stdin.write(keysOf(text));
  }
  while (goesOn()) await systemClock.sleep(POLL_MS);
  if (code === undefined) child.kill('SIGKILL');
  return { code: code ?? -1, output };
}
