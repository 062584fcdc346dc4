import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Bed, until } from './kit/index.ts';

/**
 * `shoal why` on prepared situations: all stand at the same time in one lab, then each case asks and compares the answer
 * with the text beside this file (e2e/why/SITUATION.txt; SHOAL_GOLDEN=write writes them anew).
 */
const bed = new Bed('why');
const GOLDEN = join(dirname(fileURLToPath(import.meta.url)), 'why');
let web = '';

/** What differs from run to run becomes a placeholder. */
function normalised(text: string): string {
  const names = bed.hosts.reduce((all, host) => all.replaceAll(host.address, `<${host.name}>`), text);
  return names
    .replaceAll(bed.registry, '<registry>')
    .replaceAll(/@sha256:[0-9a-f]{64}/g, '')
    .replaceAll(/\b[a-z0-9]{25}\b/g, '<id>')
    .replaceAll(/\((?=[a-z]*\d)[a-z0-9]{12}\)/g, '(<id>)')
    .replaceAll(/\btask (?=[a-z]*\d)[a-z0-9]{12}\b/g, 'task <id>')
    .replaceAll(/(?:less than a second|\d+ (?:second|minute)s?)(?= ago)/g, '<time>')
    .replaceAll(/\bin (?:less than a second|\d+ (?:second|minute)s?)/g, 'in <time>')
    .replaceAll(/\d+(?:\.\d+)?[KMGT]iB/g, '<size>');
}

async function why(...args: string[]): Promise<string> {
  return normalised(await bed.on('m1', 'shoal').run('why', ...args));
}

const create = (name: string, ...args: string[]): Promise<string> =>
  bed.client.run('service', 'create', '--detach', '--quiet', '--name', name, ...args);

beforeAll(async () => {
  await bed.up({ managers: 1, workers: 3 });
  web = await bed.serveImages();
  console.log(bed.lab.names.name, bed.hosts.map((h) => h.docker_host).join(' '), web);
});
afterAll(() => bed.down());

it('x', async () => {
  await until('never', 3_000_000, () => false);
}, 3_000_000);
