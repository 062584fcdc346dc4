import { invalidArgument } from '../base/index.ts';

/** Length of a regular expression that is tried, characters. */
const PATTERN_MAX = 256;

function pattern(text: string): RegExp | undefined {
  if (text.length > PATTERN_MAX) return undefined;
  try {
    return new RegExp(text);
  } catch {
    return undefined;
  }
}

/** The `filters` of a list request: values by key. */
export class Filters {
  readonly #values: Map<string, string[]>;
  /** Values as regular expressions, made at first use. */
  readonly #patterns = new Map<string, RegExp | undefined>();

  constructor(values: Map<string, string[]>) {
    this.#values = values;
  }

  /**
   * Reads ?filters= in its new (`{"k":{"v":true}}`) and old (`{"k":["v"]}`) form.
   * @throws ShoalError InvalidArgument for other JSON and for keys that are not in `allowed`.
   */
  static parse(query: URLSearchParams, allowed: readonly string[]): Filters {
    const text = query.get('filters');
    const values = new Map<string, string[]>();
    if (text === null || text === '') return new Filters(values);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw invalidArgument('invalid filter');
    }
    if (typeof json !== 'object' || json === null || Array.isArray(json)) throw invalidArgument('invalid filter');
    for (const [key, given] of Object.entries(json)) {
      if (!allowed.includes(key)) throw invalidArgument(`invalid filter '${key}'`);
      if (Array.isArray(given)) values.set(key, given.map(String));
      else if (typeof given === 'object' && given !== null) values.set(key, Object.keys(given));
      else throw invalidArgument('invalid filter');
    }
    return new Filters(values);
  }

  get(key: string): string[] {
    return this.#values.get(key) ?? [];
  }

  has(key: string): boolean {
    return this.get(key).length > 0;
  }

  /** True when the key is absent or one of its values is `value`. */
  matches(key: string, value: string): boolean {
    const wanted = this.get(key);
    return wanted.length === 0 || wanted.includes(value);
  }

  /** True when the key is absent or `test` holds for one of its values. */
  some(key: string, test: (wanted: string) => boolean): boolean {
    const wanted = this.get(key);
    return wanted.length === 0 || wanted.some(test);
  }

  /**
   * As dockerd matches names and ids: true when the key is absent, or one of its values is `value` or, as a regular
   * expression, is found in it. A value that is no expression is found as it stands.
   */
  found(key: string, value: string): boolean {
    return this.some(key, (wanted) => value.includes(wanted) || this.#pattern(wanted)?.test(value) === true);
  }

  #pattern(wanted: string): RegExp | undefined {
    if (!this.#patterns.has(wanted)) this.#patterns.set(wanted, pattern(wanted));
    return this.#patterns.get(wanted);
  }

  /** Values `k` or `k=v` as a map, for label filters (an empty value means any). */
  labels(key = 'label'): Record<string, string> {
    return Object.fromEntries(
      this.get(key).map((text) => {
        const at = text.indexOf('=');
        return at < 0 ? [text, ''] : [text.slice(0, at), text.slice(at + 1)];
      }),
    );
  }

  /** Whether labels satisfy every wanted `k` or `k=v`. */
  matchesLabels(labels: Readonly<Record<string, string>>, key = 'label'): boolean {
    return this.get(key).every((text) => {
      const at = text.indexOf('=');
      return at < 0 ? Object.hasOwn(labels, text) : labels[text.slice(0, at)] === text.slice(at + 1);
    });
  }
}
