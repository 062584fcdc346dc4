/** What two engines answered to one command, made comparable. Pure. */

/** How a command ended on one side. */
export interface Answer {
  code: number;
  stdout: string;
  stderr: string;
}

/** One place where the two answers are not alike. */
export interface Difference {
  /** `exit`, `stdout`, `stderr`, or the path of a field in the JSON that was printed, such as `[0].State.Pid`. */
  at: string;
  /** Text of the value; `(absent)` where one side has none. */
  docker: string;
  shoal: string;
}

/** Directories and names of one side, longest first: what they are replaced by tells what they are. */
export type Places = readonly (readonly [path: string, word: string])[];

const ABSENT = '(absent)';

/** What is different in every run, whoever the engine is. Order matters: the longest forms come first. */
const FORMS: readonly (readonly [RegExp, string])[] = [
  [/\b[0-9a-f]{64}\b/g, '<id>'],
  [/\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| ?[+-]\d\d:?\d\d)?(?: [A-Z]{3,4})?/g, '<time>'],
  [/\b[0-9a-f]{12}\b/g, '<short id>'],
  [/\b[A-Z2-7]{4}(?::[A-Z2-7]{4}){11}\b/g, '<engine id>'],
  [/:\d{4,5}->/g, ':<port>->'],
  [/\b[0-9a-f]{14}…/g, '<volume>…'],
  [/\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b/g, '<mac>'],
  [/\b(?:10|172|192)\.\d+\.\d+\.\d+(\/\d+)?\b/g, '<address>$1'],
  [
    /\b(?:Less than a second|About an? (?:minute|hour)|\d+ (?:second|minute|hour|day|week|month|year)s?) ago\b/g,
    '<ago>',
  ],
  [/\bUp (?:Less than a second|About an? (?:minute|hour)|\d+ (?:second|minute)s?)/g, 'Up <time>'],
  [/(^|[\s(])\d+(?:\.\d+)?(?:e[+-]?\d+)? ?[kKMGT]?i?B(?=$|[\s),])/gm, '$1<size>'],
  [/\b\d+(?:\.\d+)?%/g, '<percent>'],
  [/((?:0\.0\.0\.0|127\.0\.0\.1|\[::\]|::):)(?:3[2-9]|4\d|5\d|6[0-5])\d{3}\b/g, '$1<port>'],
];

/** A time that says "never" is no time of a run. */
const NEVER = /0001-01-01T00:00:00Z/g;

/** Fields whose number depends on the machine or on the moment. */
const NUMBERS = /\.(Pid|Size|SizeRw|SizeRootFs|VirtualSize|LayersSize|Total|NFd|NGoroutines|HostPort)$/;

/** Fields of which only the presence and the type are compared: they tell of the host or of a random choice. */
const OPAQUE = /\.(SandboxID|SandboxKey|EndpointID|NetworkID|GlobalIPv6Address|LinkLocalIPv6Address)$/;

/** Lists of objects that have no order of their own: Docker makes them from maps. */
const UNORDERED = /\.Mounts$/;

/** Lists that are sets of words: each word is a place of its own, whatever stands before it. */
const SETS =
  /\.(MaskedPaths|ReadonlyPaths|SecurityOpt|SecurityOptions|RepoTags|DNSNames|Aliases|Links|Log|Network|Env|Binds)$/;

/** Replaces what differs from run to run by words that say what it was. */
export function normalised(text: string, places: Places): string {
  let all = text.replaceAll(NEVER, '<never>');
  for (const [path, word] of places) all = all.replaceAll(path, word);
  for (const [form, word] of FORMS) all = all.replaceAll(form, word);
  return all;
}

/** Lines of a text without what only keeps columns apart. */
function linesOf(text: string, places: Places): string[] {
  const lines = normalised(text, places).split('\n');
  return lines.map((line) => line.replaceAll(/ {2,}/g, '  ').trimEnd()).filter((line) => line !== '');
}

function parsed(text: string): unknown {
  const trimmed = text.trim();
  if (!/^[[{]/.test(trimmed)) return undefined;
  try {
    return JSON.parse(trimmed);
  } catch {
    return undefined;
  }
}

function leafText(path: string, value: unknown, places: Places): string {
  if (OPAQUE.test(path)) return value === '' ? '""' : `<${typeof value}>`;
  if (NUMBERS.test(path) && Number(value) > 0) return `<${typeof value} above 0>`;
  return typeof value === 'string' ? JSON.stringify(normalised(value, places)) : JSON.stringify(value);
}

/** Every leaf of a JSON value by its path; an empty list or object is a leaf too. */
export function flat(value: unknown, places: Places, path = ''): Map<string, string> {
  const found = new Map<string, string>();
  if (Array.isArray(value) && value.length > 0 && SETS.test(path)) {
    for (const item of value) found.set(`${path}{${normalised(String(item), places)}}`, 'present');
  } else if (Array.isArray(value) && value.length > 0) {
    const parts = value.map((item, i) => ({ item: item as unknown, i }));
    if (UNORDERED.test(path)) {
      const key = (item: unknown): string => [...flat(item, places).values()].join();
      parts.sort((a, b) => (key(a.item) < key(b.item) ? -1 : 1));
    }
    parts.forEach(({ item }, i) => {
      for (const [at, text] of flat(item, places, `${path}[${i}]`)) found.set(at, text);
    });
  } else if (typeof value === 'object' && value !== null && Object.keys(value).length > 0) {
    for (const [name, item] of Object.entries(value)) {
      for (const [at, text] of flat(item, places, `${path}.${normalised(name, places)}`)) found.set(at, text);
    }
  } else {
    found.set(path, leafText(path, value, places));
  }
  return found;
}

/** A path of which the other side has an empty object, list or null shows the same place twice: told once, at the top. */
function jsonDifferences(docker: Map<string, string>, shoal: Map<string, string>): Difference[] {
  const paths = [...new Set([...docker.keys(), ...shoal.keys()])];
  return paths
    .filter((path) => docker.get(path) !== shoal.get(path))
    .map((at) => ({ at, docker: docker.get(at) ?? ABSENT, shoal: shoal.get(at) ?? ABSENT }));
}

/** Pairs of lines that are not alike: the longest common run of lines is taken out. */
function lineDifferences(at: string, docker: readonly string[], shoal: readonly string[]): Difference[] {
  const row = (): number[] => shoal.map(() => 0);
  const long = docker.map(row);
  const length = (i: number, j: number): number => long[i]?.[j] ?? 0;
  for (let i = docker.length - 1; i >= 0; i--) {
    for (let j = shoal.length - 1; j >= 0; j--) {
      const best = docker[i] === shoal[j] ? length(i + 1, j + 1) + 1 : Math.max(length(i + 1, j), length(i, j + 1));
      (long[i] as number[])[j] = best;
    }
  }
  const only: { docker: string[]; shoal: string[] } = { docker: [], shoal: [] };
  const found: Difference[] = [];
  const flush = (): void => {
    for (let n = 0; n < Math.max(only.docker.length, only.shoal.length); n++) {
      found.push({ at, docker: only.docker[n] ?? ABSENT, shoal: only.shoal[n] ?? ABSENT });
    }
    only.docker = [];
    only.shoal = [];
  };
  let [i, j] = [0, 0];
  while (i < docker.length || j < shoal.length) {
    if (i < docker.length && j < shoal.length && docker[i] === shoal[j]) {
      flush();
      i++;
      j++;
    } else if (j >= shoal.length || (i < docker.length && length(i + 1, j) >= length(i, j + 1))) {
      only.docker.push(docker[i++] ?? '');
    } else {
      only.shoal.push(shoal[j++] ?? '');
    }
  }
  flush();
  return found;
}

/** Everything in which two answers to one command are not alike. */
export function differences(docker: Answer, shoal: Answer, places: { docker: Places; shoal: Places }): Difference[] {
  const found: Difference[] = [];
  if (docker.code !== shoal.code) found.push({ at: 'exit', docker: `${docker.code}`, shoal: `${shoal.code}` });
  const [left, right] = [parsed(docker.stdout), parsed(shoal.stdout)];
  if (left !== undefined && right !== undefined) {
    found.push(...jsonDifferences(flat(left, places.docker), flat(right, places.shoal)));
  } else {
    const lines = [linesOf(docker.stdout, places.docker), linesOf(shoal.stdout, places.shoal)] as const;
    found.push(...lineDifferences('stdout', ...lines));
  }
  const words = [linesOf(docker.stderr, places.docker), linesOf(shoal.stderr, places.shoal)] as const;
  found.push(...lineDifferences('stderr', ...words));
  return found;
}
