import { normaliseArchitecture, normaliseOs } from '../platform.ts';
import { nodes, type FilterFactory } from './filter.ts';

/** The node runs one of the platforms that the image exists for. An empty field stands for any. */
export const platformFilter: FilterFactory = (task) => {
  const platforms = task.spec?.placement?.platforms ?? [];
  if (platforms.length === 0) return undefined;
  const wanted = platforms.map((platform) => ({
    os: normaliseOs(platform.os),
    architecture: normaliseArchitecture(platform.architecture),
  }));
  return {
    check: ({ node }) => {
      const os = normaliseOs(node.description?.platform?.os ?? '');
      const architecture = normaliseArchitecture(node.description?.platform?.architecture ?? '');
      return wanted.some(
        (one) => (one.os === '' || one.os === os) && (one.architecture === '' || one.architecture === architecture),
      );
    },
    explain: (count) => `unsupported platform on ${nodes(count)}`,
  };
};
