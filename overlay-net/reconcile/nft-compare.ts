/**
 * Listings of nft tables compared. Pure. Both sides are the kernel's own words (what is wanted is listed in a scratch
 * namespace), so that nothing here knows nft's grammar beyond its blocks.
 */
import type { Drift } from './compare.ts';

/** Parts of tables by name ("chain forward"), each as comparable text. */
export type Listing = ReadonlyMap<string, string>;

/** Names of the tables that a rule set's text defines: "ip shoal". */
export function tablesOf(text: string): string[] {
  const found = [...text.matchAll(/^(?:add )?table (\S+ \S+)(?: \{)?$/gm)].map((match) => match[1] ?? '');
  return [...new Set(found)];
}

/** Elements have no order; neither has what stands between braces in a rule. */
function sortBraces(text: string): string {
  return text.replace(/\{([^{}]*)\}/g, (_, inside: string) => {
    const parts = inside.split(',').map((part) => part.trim());
    return `{ ${parts.sort().join(', ')} }`;
  });
}

function comparable(lines: readonly string[]): string {
  const text = lines.join(' ').replaceAll(/\s+/g, ' ').trim();
  // Counters count; entries that come and go by themselves are nobody's drift.
  const still = text.replaceAll(/counter packets \d+ bytes \d+/g, 'counter');
  const plain = /flags [^;]*\b(?:dynamic|timeout)\b/.test(still) ? still.replace(/elements = \{[^{}]*\}/, '') : still;
  return sortBraces(plain);
}

/** Reads what `nft list table` or `nft list ruleset` prints. */
export function parseListing(text: string): Listing {
  const parts = new Map<string, string>();
  let table = '';
  let name = '';
  let lines: string[] = [];
  for (const line of text.split('\n')) {
    const head = /^(\s*)(\S.*) \{$/.exec(line);
    if (head !== null && head[1] === '') table = head[2] ?? '';
    else if (head !== null && name === '') {
      name = head[2] ?? '';
      lines = [];
    } else if (line === '\t}') {
      parts.set(`${table} ${name}`, comparable(lines));
      name = '';
    } else if (line === '}') {
      parts.set(table, '');
      table = '';
    } else if (name !== '' && line.trim() !== '') lines.push(line);
  }
  return parts;
}

/** What differs. A table that is gone is one drift, whatever was in it. Repair is to replace the table whole. */
export function compareListings(actual: Listing, wanted: Listing): Drift[] {
  const drifts: Drift[] = [];
  const gone = [...wanted.keys()].filter((name) => /^table \S+ \S+$/.test(name) && !actual.has(name));
  for (const name of gone) drifts.push({ kind: 'nft', what: `nft ${name}`, fault: 'missing', repair: [] });
  const within = (name: string): boolean => gone.some((table) => name === table || name.startsWith(`${table} `));
  for (const [name, text] of wanted) {
    if (within(name)) continue;
    const held = actual.get(name);
    if (held === text) continue;
    drifts.push({ kind: 'nft', what: `nft ${name}`, fault: held === undefined ? 'missing' : 'changed', repair: [] });
  }
  for (const name of actual.keys()) {
    if (!wanted.has(name)) drifts.push({ kind: 'nft', what: `nft ${name}`, fault: 'foreign', repair: [] });
  }
  return drifts;
}
