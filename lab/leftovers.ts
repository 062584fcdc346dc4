import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { cgroupRoots, processesIn } from './cgroups.ts';
import type { LabNames } from './names.ts';

/** What is still there of a lab after `down`: processes, cgroups, links, mounts, namespaces, files. */
export function leftovers(names: LabNames): string[] {
  const found: string[] = [];
  const processes = processesIn(names.cgroup);
  if (processes.length > 0) found.push(`processes ${processes.join(' ')}`);
  for (const pid of strayProcesses(names)) found.push(`process ${pid}`);
  for (const root of cgroupRoots())
    if (existsSync(join(root, names.cgroup))) found.push(`cgroup ${root}/${names.cgroup}`);
  const links = [...Object.keys(networkInterfaces()), ...readdirSync('/sys/class/net')];
  for (const link of new Set(links)) {
    if (link === names.bridge || link.startsWith(`sl${names.tag}`)) found.push(`link ${link}`);
  }
  for (const line of readFileSync('/proc/self/mountinfo', 'utf8').split('\n')) {
    const at = line.split(' ')[4] ?? '';
    if (at.startsWith(`${names.runDir}/`) || at.startsWith(`${names.dataDir}/`)) found.push(`mount ${at}`);
  }
  for (const dir of [names.runDir, names.dataDir]) if (existsSync(dir)) found.push(`directory ${dir}`);
  return found;
}

/** Processes whose command line names the lab's directories, wherever their cgroup is. */
function strayProcesses(names: LabNames): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry) && Number(entry) !== process.pid)
    .filter((entry) => {
      try {
        const words = readFileSync(`/proc/${entry}/cmdline`, 'utf8');
        return words.includes(`${names.runDir}/`) || words.includes(`${names.dataDir}/`);
      } catch {
        // It has just ended.
        return false;
      }
    })
    .map(Number);
}
