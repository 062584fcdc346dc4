import { httpCall, httpJson, must, readText, ShoalError } from '../../base/index.ts';
import { memoryNow, type MemoryNow, type Side } from '../hosts.ts';

const LABEL = 'shoal.bench';
const REMOVALS_AT_ONCE = 8;

/** One host with an engine on it, Shoal's or Docker's, spoken to by the Docker Engine API. */
export interface EngineHost {
  side: Side;
  /** Socket, as DOCKER_HOST. */
  host: string;
  /** Id of the image that both sides have. */
  image: string;
}

export function engineHost(side: Side, image: string): EngineHost {
  return { side, host: must(side.hosts[0], 'host').docker_host, image };
}

/** Creates and starts a container of the bench. @returns its id */
export async function start(
  { host, image }: EngineHost,
  command: readonly string[],
  more: object = {},
): Promise<string> {
  const body = { Image: image, Cmd: command, Labels: { [LABEL]: '' }, ...more };
  const { Id: id } = await httpJson<{ Id: string }>({ host, method: 'POST', path: '/containers/create', body });
  await post(host, `/containers/${id}/start`);
  return id;
}

/** A request whose answer has no body that matters. @throws ShoalError with the daemon's words */
export async function post(host: string, path: string, method: 'POST' | 'DELETE' = 'POST'): Promise<void> {
  const answer = await httpCall({ host, method, path });
  const text = await readText(answer.body);
  if (answer.status >= 400) throw new ShoalError('Internal', `${method} ${path}: ${answer.status} ${text.trim()}`);
}

/** Waits for the end of a container. @returns its exit code */
export async function wait(host: string, id: string): Promise<number> {
  const path = `/containers/${id}/wait`;
  const { StatusCode } = await httpJson<{ StatusCode: number }>({ host, method: 'POST', path, timeoutMs: 0 });
  return StatusCode;
}

/** Removes all containers of the bench. @returns how many */
export async function removeAll({ host }: EngineHost): Promise<number> {
  const filters = encodeURIComponent(JSON.stringify({ label: [LABEL] }));
  const path = `/containers/json?all=1&filters=${filters}`;
  const list = await httpJson<{ Id: string }[]>({ host, method: 'GET', path });
  await many(REMOVALS_AT_ONCE, list, ({ Id: id }) => post(host, `/containers/${id}?force=1`, 'DELETE'));
  return list.length;
}

/** Runs `work` for each item, `width` at once. */
export async function many<T>(width: number, items: readonly T[], work: (item: T) => Promise<unknown>): Promise<void> {
  const rest = items.entries();
  // All take from the same iterator.
  const loop = async (): Promise<void> => {
    for (const [, item] of rest) await work(item);
  };
  await Promise.all(Array.from({ length: width }, loop));
}

export function memoryOf({ side }: Pick<EngineHost, 'side'>): MemoryNow {
  return memoryNow(side.lab, must(side.hosts[0], 'host').name);
}
