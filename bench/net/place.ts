import { ShoalError } from '../../base/index.ts';
import type { Lab } from '../../lab/index.ts';

/** One end of a measurement: a network namespace, entered by a command. */
export interface Place {
  lab: Lab;
  /** Lab host whose cgroup the program belongs to. */
  host: string;
  /** Empty: the host's own namespace. */
  enter: readonly string[];
  address: string;
}

/** Runs a command on a lab host. @throws ShoalError with its words unless it exits with 0 */
export async function onHost(lab: Lab, host: string, command: readonly string[], timeoutMs = 30_000): Promise<string> {
  const result = await lab.capture(host, command, { timeoutMs });
  const text = result.stdout.toString('utf8');
  if (result.code === 0) return text;
  const words = `${result.stderr.toString('utf8')}${text}`.trim().slice(0, 500);
  throw new ShoalError('Internal', `${host}: ${command.join(' ')}: exit ${result.code}: ${words}`);
}
