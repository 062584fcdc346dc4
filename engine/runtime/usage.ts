import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupLayout } from './cgroups.ts';

/** What a control group has used until now. */
export interface CgroupUsage {
  /** CPU time of all its processes since it was made, ns. */
  cpuNs: number;
  /** Memory that cannot be given back at once, bytes: without file pages that nobody has touched for a while. */
  memoryBytes: number | undefined;
}

const NS_PER_US = 1000;

/** The text of a kernel file; undefined when the group is gone (also while it is read) or has no such file. */
function read(tree: string, path: string, file: string): string | undefined {
  try {
    return readFileSync(join(tree, path, file), 'latin1');
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV') return undefined;
    throw error;
  }
}

/** The number after a word at the beginning of a line; undefined when there is no such line. */
function field(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  const at = text.startsWith(`${name} `) ? 0 : text.indexOf(`\n${name} `) + 1;
  if (at === 0 && !text.startsWith(`${name} `)) return undefined;
  const end = text.indexOf('\n', at);
  return Number(text.slice(at + name.length + 1, end === -1 ? undefined : end));
}

function cpuNs({ controllers, unified }: CgroupLayout, path: string): number | undefined {
  const tree = controllers.get('cpuacct');
  if (tree !== undefined) {
    const text = read(tree, path, 'cpuacct.usage');
    return text === undefined ? undefined : Number(text);
  }
  if (unified === undefined) return undefined;
  const us = field(read(unified, path, 'cpu.stat'), 'usage_usec');
  return us === undefined ? undefined : us * NS_PER_US;
}

function memoryBytes({ controllers, unified }: CgroupLayout, path: string): number | undefined {
  const v1 = controllers.get('memory');
  const tree = v1 ?? unified;
  if (tree === undefined) return undefined;
  const total = read(tree, path, v1 === undefined ? 'memory.current' : 'memory.usage_in_bytes');
  if (total === undefined) return undefined;
  const name = v1 === undefined ? 'inactive_file' : 'total_inactive_file';
  return Math.max(0, Number(total) - (field(read(tree, path, 'memory.stat'), name) ?? 0));
}

/**
 * Reads what a control group uses: three kernel files, each from the tree where this host keeps that controller
 * (v1, hybrid or v2). The files are in memory and small, so they are read at once, without a thread.
 * @param path of the group below every tree. @returns undefined when the group is gone or CPU time is not counted.
 * @throws the system's error for anything else.
 */
export function readCgroupUsage(layout: CgroupLayout, path: string): CgroupUsage | undefined {
  const cpu = cpuNs(layout, path);
  return cpu === undefined ? undefined : { cpuNs: cpu, memoryBytes: memoryBytes(layout, path) };
}
