import { normaliseArchitecture, normaliseOs } from '../platform.ts';
import { NEVER, nodes, type FilterFactory } from './filter.ts';

function platformName(os: string, architecture: string): string {
  return `${os === '' ? 'any' : os}/${architecture === '' ? 'any' : architecture}`;
}

/** The node runs one of the platforms that the image exists for. An empty field stands for any. */
export const platformFilter: FilterFactory = ({ task }) => {
  const platforms = task.spec?.placement?.platforms ?? [];
  if (platforms.length === 0) return undefined;
  const wanted = platforms.map((platform) => ({
    os: normaliseOs(platform.os),
    architecture: normaliseArchitecture(platform.architecture),
  }));
  const names = [...new Set(wanted.map((one) => platformName(one.os, one.architecture)))].join(', ');
  return {
    name: 'platform',
    check: ({ node }) => {
      const os = normaliseOs(node.description?.platform?.os ?? '');
      const architecture = normaliseArchitecture(node.description?.platform?.architecture ?? '');
      return wanted.some(
        (one) => (one.os === '' || one.os === os) && (one.architecture === '' || one.architecture === architecture),
      );
    },
    explain: (count) => `unsupported platform on ${nodes(count)}`,
    measure: () => NEVER,
    lack: ({ node: { description } }) => {
      const os = normaliseOs(description?.platform?.os ?? '');
      const own = platformName(os, normaliseArchitecture(description?.platform?.architecture ?? ''));
      return {
        lacks: `is ${own}, but the image exists for ${names} only`,
        fix: `add a node of ${names}, or use an image that exists for ${own}`,
      };
    },
  };
};
