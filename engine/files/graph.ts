import { dirname, join } from 'node:path';
import type { RootParts } from '../types.ts';

/** A root's directories under Docker's names; undefined for drivers that keep one copy of everything. */
export function graphData(parts: RootParts | undefined): Readonly<Record<string, string>> | undefined {
  if (parts === undefined || parts.upper === '') return undefined;
  return {
    LowerDir: parts.layers.map(({ path }) => path).join(':'),
    MergedDir: parts.merged,
    UpperDir: parts.upper,
    WorkDir: parts.work,
  };
}

/** An image's directories under Docker's names. @param paths of its layers, highest first */
export function imageGraphData(paths: readonly string[]): Readonly<Record<string, string>> {
  const [top, ...lower] = paths;
  if (top === undefined) return {};
  return {
    ...(lower.length === 0 ? {} : { LowerDir: lower.join(':') }),
    MergedDir: join(dirname(top), 'merged'),
    UpperDir: top,
    WorkDir: join(dirname(top), 'work'),
  };
}
