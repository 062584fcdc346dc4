import { closeSync, constants, lstatSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { posix } from 'node:path';
import {
  changeDirectoryTo,
  changeRoot,
  enterMountNamespace,
  mount,
  MS,
  unreachable,
  unshareMounts,
} from '../../base/index.ts';
import type { View, ViewMount } from './words.ts';

/** open(2): only names a file, reads nothing (fcntl.h). */
const O_PATH = 0o10000000;

interface OpenMount extends ViewMount {
  fd: number;
  directory: boolean;
}

function openMount(wanted: ViewMount): OpenMount {
  const fd = openSync(wanted.source, O_PATH);
  return { ...wanted, fd, directory: statSync(`/proc/self/fd/${fd}`).isDirectory() };
}

/** Makes the place for a mount, as the runtime does. Absolute paths lead inside the view by now. */
function makePlace({ target, directory }: OpenMount): void {
  if (statSync(target, { throwIfNoEntry: false }) !== undefined) return;
  mkdirSync(directory ? target : posix.dirname(target), { recursive: true, mode: 0o755 });
  // A link that leads nowhere stays: writing through it would make a file somewhere else.
  if (!directory && lstatSync(target, { throwIfNoEntry: false }) === undefined)
    writeFileSync(target, '', { flag: 'wx' });
}

function enterTree(view: Extract<View, { kind: 'tree' }>): void {
  unshareMounts();
  // What the host takes down goes away here too; what is mounted here is never seen there.
  mount(null, '/', null, MS.REC | MS.SLAVE, null);
  if (view.root === '') mount('tmpfs', view.scratch, 'tmpfs', MS.NOSUID | MS.NODEV, 'mode=0755,size=1m');
  else mount(view.root, view.scratch, null, MS.BIND, null);
  mount(null, view.scratch, null, MS.PRIVATE, null);
  const mounts = view.mounts.map(openMount);
  // Sources are reached by descriptor, targets by their path inside: so a link in the tree cannot lead a mount out.
  const descriptors = openSync('/proc/self/fd', constants.O_DIRECTORY | constants.O_RDONLY);
  changeRoot(view.scratch);
  for (const one of mounts) {
    makePlace(one);
    changeDirectoryTo(descriptors);
    mount(String(one.fd), one.target, null, MS.BIND | MS.REC, null);
    if (one.readOnly) mount(null, one.target, null, MS.BIND | MS.REMOUNT | MS.RDONLY, null);
    process.chdir('/');
    closeSync(one.fd);
  }
  closeSync(descriptors);
  if (view.readOnly) mount(null, '/', null, MS.BIND | MS.REMOUNT | MS.RDONLY, null);
}

/**
 * Confines this process to a view for the rest of its life. From here on no path leads out of it: not by links, not by
 * `..`, whatever is changed in the tree meanwhile. Only synchronous calls obey: others run on threads that stay outside.
 * @throws SystemCallError
 */
export function enterView(view: View): void {
  switch (view.kind) {
    case 'namespace': {
      const fd = openSync(view.path, constants.O_RDONLY);
      enterMountNamespace(fd);
      closeSync(fd);
      process.chdir('/');
      return;
    }
    case 'tree':
      enterTree(view);
      return;
    default:
      unreachable(view);
  }
}
