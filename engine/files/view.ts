import { closeSync, constants, lchownSync, lstatSync, mkdirSync, openSync, statSync, writeFileSync } from 'node:fs';
import { posix } from 'node:path';
import {
  bindIdmapped,
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
  /** Descriptor of the user namespace of `shiftedBy`. */
  namespace: number | undefined;
}

/** Whoever owns what is made for a mount. */
interface Owner {
  uid: number;
  gid: number;
}

function openMount(wanted: ViewMount): OpenMount {
  const fd = openSync(wanted.source, O_PATH);
  const namespace = wanted.shiftedBy === undefined ? undefined : openSync(wanted.shiftedBy, constants.O_RDONLY);
  return { ...wanted, fd, directory: statSync(`/proc/self/fd/${fd}`).isDirectory(), namespace };
}

/** Makes the place for a mount, as the runtime does. Absolute paths lead inside the view by now. */
function makePlace({ target, directory }: OpenMount, { uid, gid }: Owner): void {
  if (statSync(target, { throwIfNoEntry: false }) !== undefined) return;
  const last = directory ? target : posix.dirname(target);
  const first = mkdirSync(last, { recursive: true, mode: 0o755 });
  if (uid !== 0 && first !== undefined) {
    for (let at = posix.normalize(last); at.startsWith(first); at = posix.dirname(at)) lchownSync(at, uid, gid);
  }
  // A link that leads nowhere stays: writing through it would make a file somewhere else.
  if (directory || lstatSync(target, { throwIfNoEntry: false }) !== undefined) return;
  writeFileSync(target, '', { flag: 'wx' });
  if (uid !== 0) lchownSync(target, uid, gid);
}

/** Mounts what a descriptor names. The working directory holds all descriptors. */
function bind({ fd, target, readOnly, namespace }: OpenMount): void {
  if (namespace !== undefined) {
    bindIdmapped({ source: String(fd), target, namespace });
    closeSync(namespace);
    return;
  }
  mount(String(fd), target, null, MS.BIND | MS.REC, null);
  if (readOnly) mount(null, target, null, MS.BIND | MS.REMOUNT | MS.RDONLY, null);
}

function enterTree(view: Extract<View, { kind: 'tree' }>, owner: Owner): void {
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
    makePlace(one, owner);
    changeDirectoryTo(descriptors);
    bind(one);
    process.chdir('/');
    closeSync(one.fd);
  }
  closeSync(descriptors);
  if (view.readOnly) mount(null, '/', null, MS.BIND | MS.REMOUNT | MS.RDONLY, null);
}

/**
 * Confines this process to a view for the rest of its life. From here on no path leads out of it: not by links, not by
 * `..`, whatever is changed in the tree meanwhile. Only synchronous calls obey: others run on threads that stay outside.
 * @param owner root of the container on the host: places that are made for mounts are its
 * @throws SystemCallError
 */
export function enterView(view: View, owner: Owner): void {
  switch (view.kind) {
    case 'namespace': {
      const fd = openSync(view.path, constants.O_RDONLY);
      enterMountNamespace(fd);
      closeSync(fd);
      process.chdir('/');
      return;
    }
    case 'tree':
      enterTree(view, owner);
      return;
    default:
      unreachable(view);
  }
}
