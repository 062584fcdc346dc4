import { errorMessage, httpCall, httpJson, must, readText, systemClock, type Random } from '../../base/index.ts';

/** Label that lists the numbers of all updates that a service has seen: each update adds its own to what it read. */
const HISTORY = 'history';
/** A host that does not answer for so long is stopped or cut off: another one is asked, ms. */
const CALL_TIMEOUT_MS = 2_500;
/** How the failure to connect begins (base/http.ts). */
const NO_CONNECTION = 'Cannot connect';
/** Time between two updates of a service, ms. */
const PAUSE_MS = 80;

/** Parts of a service that matter here. */
export interface ServiceFacts {
  ID: string;
  Version: { Index: number };
  Spec: {
    Name: string;
    Labels?: Record<string, string>;
    TaskTemplate: { ContainerSpec: { Image: string; Env?: string[] } };
  };
}

/** Numbers of the updates that a service shows, in their order. */
export function historyOf(service: ServiceFacts): number[] {
  const text = service.Spec.Labels?.[HISTORY] ?? '';
  return text === '' ? [] : text.split(' ').map(Number);
}

/** What one writer saw. */
export interface Account {
  service: string;
  attempted: number;
  acknowledged: number[];
  /** Refused before anything was done, or because another version was there. */
  refused: number;
  /** No answer, or one that leaves open whether the update was made. */
  unknown: number;
  /** Broken promises, in words. */
  faults: string[];
}

/** When updates of any service were acknowledged: the longest time without one. */
export class Calm {
  #last = systemClock.monotonic();
  longestMs = 0;

  acknowledged(): void {
    const now = systemClock.monotonic();
    this.longestMs = Math.max(this.longestMs, now - this.#last);
    this.#last = now;
  }
}

/** Makes a service without tasks: its updates go through consensus and cost nothing else. */
export async function createCounted(host: string, name: string): Promise<string> {
  const body = {
    Name: name,
    TaskTemplate: { ContainerSpec: { Image: 'chaos.invalid/nothing:1' } },
    Mode: { Replicated: { Replicas: 0 } },
  };
  return (await httpJson<{ ID: string }>({ host, method: 'POST', path: '/services/create', body })).ID;
}

/**
 * Updates one service again and again through the APIs of hosts taken by chance. Each update reads the service, adds its
 * own number to the label or, every second time, also to the environment, and writes it back on the version that it read.
 * So a lost update would be missing in all later ones. Each reading is checked too: it must show every update that was
 * acknowledged before it began.
 */
export class Writer {
  readonly account: Account;
  readonly #hosts: readonly string[];
  readonly #random: Random;
  readonly #calm: Calm;
  readonly #id: string;

  constructor(service: { id: string; name: string }, hosts: readonly string[], random: Random, calm: Calm) {
    this.#id = service.id;
    this.#hosts = hosts;
    this.#random = random;
    this.#calm = calm;
    this.account = { service: service.name, attempted: 0, acknowledged: [], refused: 0, unknown: 0, faults: [] };
  }

  #anyHost(): string {
    return must(this.#hosts[this.#random.int(this.#hosts.length)], 'host');
  }

  /** Until `signal` aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await this.#one();
      await systemClock.sleep(PAUSE_MS);
    }
  }

  async #one(): Promise<void> {
    const { account } = this;
    const last = account.acknowledged.at(-1) ?? 0;
    let service: ServiceFacts;
    try {
      const path = `/services/${this.#id}`;
      service = await httpJson({ host: this.#anyHost(), method: 'GET', path, timeoutMs: CALL_TIMEOUT_MS });
    } catch {
      return;
    }
    const seen = historyOf(service);
    if (last > 0 && !seen.includes(last)) {
      account.faults.push(
        `a reading of ${account.service} shows ${seen.at(-1) ?? 'nothing'} after ${last} was acknowledged`,
      );
    }
    await this.#write(service, seen, ++account.attempted);
  }

  async #write({ Spec, Version }: ServiceFacts, seen: readonly number[], number: number): Promise<void> {
    const { account } = this;
    const { ContainerSpec } = Spec.TaskTemplate;
    const Env = number % 2 === 0 ? [`UPDATE=${number}`] : (ContainerSpec.Env ?? []);
    const body = {
      ...Spec,
      Labels: { ...Spec.Labels, [HISTORY]: [...seen, number].join(' ') },
      TaskTemplate: { ...Spec.TaskTemplate, ContainerSpec: { ...ContainerSpec, Env } },
    };
    const path = `/services/${this.#id}/update?version=${Version.Index}`;
    try {
      const call = { host: this.#anyHost(), method: 'POST', path, body, timeoutMs: CALL_TIMEOUT_MS };
      const answer = await httpCall(call);
      const words = await readText(answer.body);
      if (answer.status === 200) {
        account.acknowledged.push(number);
        this.#calm.acknowledged();
      } else if (words.includes('update out of sequence')) {
        account.refused++;
      } else {
        account.unknown++;
      }
    } catch (error) {
      // A connection that broke, or no answer in time: the update may have been made.
      if (errorMessage(error).startsWith(NO_CONNECTION)) account.refused++;
      else account.unknown++;
    }
  }
}

/** What a service's final state breaks of what was promised, in words. */
export function brokenPromises(account: Account, service: ServiceFacts): string[] {
  const faults = [...account.faults];
  const seen = historyOf(service);
  const present = new Set(seen);
  const missing = account.acknowledged.filter((number) => !present.has(number));
  if (missing.length > 0) faults.push(`${account.service} lost the acknowledged updates ${missing.join(' ')}`);
  if (present.size !== seen.length) faults.push(`${account.service} shows an update twice`);
  if (seen.some((number, i) => number <= (seen[i - 1] ?? 0))) faults.push(`${account.service} is out of order`);
  if ((seen.at(-1) ?? 0) > account.attempted) faults.push(`${account.service} shows what nobody wrote`);
  const env = Math.max(0, ...seen.filter((number) => number % 2 === 0));
  const [shown = 'UPDATE=0'] = service.Spec.TaskTemplate.ContainerSpec.Env ?? [];
  if (shown !== `UPDATE=${env}`) faults.push(`${account.service} has ${shown} in its environment after update ${env}`);
  return faults;
}
