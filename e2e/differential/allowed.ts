import { existsSync, readFileSync } from 'node:fs';
import type { Difference } from './compare.ts';

/** An entry of allowed.json: which differences it lets pass, and why. `*` stands for any text in all but the reason. */
export interface Allowed {
  /** The command line; all of them when absent. */
  command?: string;
  at: string;
  /** What Docker has there; anything when absent. */
  docker?: string;
  /** What Shoal has there; anything when absent. */
  shoal?: string;
  /** Differs only on hosts that have this. */
  host?: 'ipv6';
  reason: string;
}

const matches = (pattern: string | undefined, text: string): boolean =>
  pattern === undefined ||
  new RegExp(
    `^${pattern
      .split('*')
      .map((part) => part.replaceAll(/[\\^$+?.()|[\]{}]/g, '\\$&'))
      .join('.*')}$`,
    's',
  ).test(text);

/** The reviewed list, and which of its entries were needed. */
export class Allowances {
  readonly #entries: readonly Allowed[];
  readonly #used = new Set<Allowed>();

  constructor(entries: readonly Allowed[]) {
    this.#entries = entries;
  }

  static read(file: string): Allowances {
    return new Allowances(JSON.parse(readFileSync(file, 'utf8')) as Allowed[]);
  }

  /** Differences of a command that no entry lets pass. */
  rest(command: string, found: readonly Difference[]): Difference[] {
    return found.filter((difference) => {
      const entry = this.#entries.find(
        (candidate) =>
          matches(candidate.command, command) &&
          matches(candidate.at, difference.at) &&
          matches(candidate.docker, difference.docker) &&
          matches(candidate.shoal, difference.shoal),
      );
      if (entry !== undefined) this.#used.add(entry);
      return entry === undefined;
    });
  }

  /** Entries that nothing needed: what they allow does not differ any more. */
  unused(): Allowed[] {
    const hasIp6 = existsSync('/proc/net/if_inet6');
    return this.#entries.filter((entry) => !this.#used.has(entry) && (entry.host === undefined || hasIp6));
  }

  /** Entries that do not say why. */
  unexplained(): Allowed[] {
    return this.#entries.filter(({ reason }) => reason.trim().length < 20);
  }
}
