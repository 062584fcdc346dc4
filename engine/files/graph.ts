import { dirname, join } from 'node:path';

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
