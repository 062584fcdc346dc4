import { chmodSync, chownSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { bindIdmapped, errorMessage, mount } from '../../base/index.ts';
import type { RootIds } from '../types.ts';
import { unmountEvery } from './mounts.ts';

/**
 * Tries a root whose layers are shown with other owners, in `directory`: both reading and copying up. Says why it does
 * not work, or undefined.
 */
export function shiftedProblem(directory: string, { uid, gid, namespace }: RootIds): string | undefined {
  const probe = join(directory, `probe-ids-${process.pid}`);
  const at = (name: string): string => join(probe, name);
  try {
    for (const name of ['lower', 'upper', 'work', 'merged', 'shifted']) mkdirSync(at(name), { recursive: true });
    writeFileSync(at('lower/file'), 'x');
    chownSync(at('upper'), uid, gid);
    bindIdmapped({ source: at('lower'), target: at('shifted'), namespace });
    const options = `lowerdir=${at('shifted')},upperdir=${at('upper')},workdir=${at('work')}`;
    mount('overlay', at('merged'), 'overlay', 0, options);
    chmodSync(at('merged/file'), 0o600);
    const copied = statSync(at('upper/file'));
    return copied.uid === uid && copied.gid === gid ? undefined : 'overlayfs lost the owner of a file it copied';
  } catch (error) {
    return errorMessage(error);
  } finally {
    for (const name of ['merged', 'shifted']) unmountEvery(at(name));
    rmSync(probe, { recursive: true, force: true });
  }
}
