import { fromLibc } from './ffi.ts';
import { checked, closeFd } from './libc.ts';

/**
 * The newer calls on mounts (open_tree, move_mount: Linux 5.2; mount_setattr: 5.12). C libraries before glibc 2.36 have
 * no names for them, so they are made by number; these numbers are the same on every architecture.
 */
interface MountCalls {
  openTree: (call: number, directory: number, path: string, flags: number) => number;
  moveMount: (call: number, from: number, fromPath: string, to: number, toPath: string, flags: number) => number;
  setAttributes: (
    call: number,
    tree: number,
    path: string,
    flags: number,
    attributes: Uint8Array,
    size: number,
  ) => number;
}

const OPEN_TREE = 428;
const MOVE_MOUNT = 429;
const MOUNT_SETATTR = 442;

/** fcntl.h, linux/mount.h */
const AT_FDCWD = -100;
const AT_EMPTY_PATH = 0x1000;
const OPEN_TREE_CLONE = 1;
const OPEN_TREE_CLOEXEC = 0o2000000;
const MOVE_MOUNT_F_EMPTY_PATH = 4;
const MOUNT_ATTR_RDONLY = 1;
const MOUNT_ATTR_IDMAP = 0x00100000;
/** struct mount_attr of mount_setattr(2): attr_set, attr_clr, propagation, userns_fd, 64 bits each. */
const ATTRIBUTES_BYTES = 32;

const calls = fromLibc((lib): MountCalls => ({
  openTree: lib.func('long syscall(long number, long directory, const char *path, unsigned long flags)'),
  moveMount: lib.func(
    'long syscall(long number, long from, const char *fromPath, long to, const char *toPath, unsigned long flags)',
  ),
  setAttributes: lib.func(
    'long syscall(long number, long tree, const char *path, unsigned long flags, const uint8_t *attr, size_t size)',
  ),
}));

export interface IdmappedBind {
  source: string;
  /** An existing directory (or file, for a file). */
  target: string;
  /** A descriptor of the user namespace whose mapping holds: id N of the disk shows as the id that N stands for there. */
  namespace: number;
}

/**
 * Binds a tree (without mounts below it) to another place with other owners: nothing on the disk changes. It is
 * read-only. @throws SystemCallError EINVAL where kernel or file system cannot do that
 */
export function bindIdmapped({ source, target, namespace }: IdmappedBind): void {
  const { openTree, moveMount, setAttributes } = calls();
  const clone = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC;
  const tree = checked('open_tree', openTree(OPEN_TREE, AT_FDCWD, source, clone), source);
  try {
    const attributes = Buffer.alloc(ATTRIBUTES_BYTES);
    attributes.writeBigUInt64LE(BigInt(MOUNT_ATTR_RDONLY | MOUNT_ATTR_IDMAP), 0);
    attributes.writeBigUInt64LE(BigInt(namespace), 24);
    const set = setAttributes(MOUNT_SETATTR, tree, '', AT_EMPTY_PATH, attributes, attributes.length);
    checked('mount_setattr', set, `other owners for ${source}`);
    const moved = moveMount(MOVE_MOUNT, tree, '', AT_FDCWD, target, MOVE_MOUNT_F_EMPTY_PATH);
    checked('move_mount', moved, `${source} at ${target}`);
  } finally {
    closeFd(tree);
  }
}
