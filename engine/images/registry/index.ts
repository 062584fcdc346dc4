import { unavailable } from '../../../base/index.ts';
import type { Images } from '../../types.ts';

export function openRegistry(_options: object): Pick<Images, 'pull' | 'push' | 'distribution'> & { close(): void } {
  const refuse = (): Promise<never> => Promise.reject(unavailable('the registry client is being built'));
  return { pull: refuse, push: refuse, distribution: refuse, close: () => undefined };
}
