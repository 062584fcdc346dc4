import { closeSync, openSync } from 'node:fs';
import { fromLibc } from './ffi.ts';
import { checked } from './libc.ts';

/*
 * System calls on file trees that Node has no name for: extended attributes, device nodes, times of links, and what
 * confines a thread to a tree. Paths are bytes: file names need not be UTF-8.
 */

interface TreeCalls {
  llistxattr: (path: Uint8Array, list: Uint8Array, size: number) => number;
  lgetxattr: (path: Uint8Array, name: Uint8Array, value: Uint8Array, size: number) => number;
  lsetxattr: (path: Uint8Array, name: Uint8Array, value: Uint8Array, size: number, flags: number) => number;
  mknod: (path: Uint8Array, mode: number, device: bigint) => number;
  utimensat: (directory: number, path: Uint8Array, times: Uint8Array, flags: number) => number;
  unshare: (flags: number) => number;
  setns: (fd: number, kind: number) => number;
  chroot: (path: string) => number;
  fchdir: (fd: number) => number;
  ioctl: (fd: number, request: number, value: Uint8Array) => number;
}

const calls = fromLibc((lib): TreeCalls => ({
  llistxattr: lib.func('intptr_t llistxattr(const uint8_t *path, _Out_ uint8_t *list, size_t size)'),
  lgetxattr: lib.func(
    'intptr_t lgetxattr(const uint8_t *path, const uint8_t *name, _Out_ uint8_t *value, size_t size)',
  ),
  lsetxattr: lib.func(
    'int lsetxattr(const uint8_t *path, const uint8_t *name, const uint8_t *value, size_t size, int flags)',
  ),
  mknod: lib.func('int mknod(const uint8_t *path, unsigned int mode, uint64_t dev)'),
  utimensat: lib.func('int utimensat(int dir, const uint8_t *path, const uint8_t *times, int flags)'),
  unshare: lib.func('int unshare(int flags)'),
  setns: lib.func('int setns(int fd, int nstype)'),
  chroot: lib.func('int chroot(const char *path)'),
  fchdir: lib.func('int fchdir(int fd)'),
  ioctl: lib.func('int ioctl(int fd, unsigned long request, _Inout_ uint8_t *value)'),
}));

const terminated = (bytes: Uint8Array): Buffer => Buffer.concat([bytes, Buffer.alloc(1)]);

/** Longest list of attribute names and longest value that the kernel gives, bytes (limits.h, XATTR_*_MAX). */
const XATTR_MAX_BYTES = 65_536;

/** Names of the extended attributes of a file, not following a link; none where the file system has no such thing. */
export function listExtendedAttributes(path: Uint8Array): string[] {
  const list = Buffer.alloc(XATTR_MAX_BYTES);
  const length = calls().llistxattr(terminated(path), list, list.length);
  return length <= 0 ? [] : list.toString('latin1', 0, length - 1).split('\0');
}

/** Value of an extended attribute, not following a link; undefined when there is none. */
export function getExtendedAttribute(path: Uint8Array, name: string): Buffer | undefined {
  const value = Buffer.alloc(XATTR_MAX_BYTES);
  const length = calls().lgetxattr(terminated(path), terminated(Buffer.from(name, 'latin1')), value, value.length);
  return length < 0 ? undefined : value.subarray(0, length);
}

/** Sets an extended attribute to bytes, not following a link. @throws SystemCallError */
export function setExtendedAttributeBytes(path: Uint8Array, name: string, value: Uint8Array): void {
  const key = terminated(Buffer.from(name, 'latin1'));
  // An empty value still needs an address.
  const bytes = value.length === 0 ? Buffer.alloc(1) : value;
  checked('lsetxattr', calls().lsetxattr(terminated(path), key, bytes, value.length, 0), name);
}

/** Number of a device as glibc composes it (sys/sysmacros.h). */
function deviceNumber(major: number, minor: number): bigint {
  const [high, low] = [BigInt(major), BigInt(minor)];
  return (low & 0xffn) | ((high & 0xfffn) << 8n) | ((low & ~0xffn) << 12n) | ((high & ~0xfffn) << 32n);
}

/** Major and minor number of `rdev` of a stat. */
export function deviceParts(rdev: bigint): { major: number; minor: number } {
  return {
    major: Number(((rdev >> 8n) & 0xfffn) | ((rdev >> 32n) & ~0xfffn)),
    minor: Number((rdev & 0xffn) | ((rdev >> 12n) & 0xffffff00n)),
  };
}

/** mknod(2): `mode` holds the kind (S_IFCHR, S_IFBLK, S_IFIFO) and the permission bits. @throws SystemCallError */
export function makeNode(path: Uint8Array, mode: number, major: number, minor: number): void {
  checked('mknod', calls().mknod(terminated(path), mode, deviceNumber(major, minor)), 'of a node');
}

const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;

/** Sets access and modification time to `ns` since the epoch, not following a link. @throws SystemCallError */
export function setTimesNs(path: Uint8Array, ns: bigint): void {
  const times = Buffer.alloc(32);
  let [seconds, rest] = [ns / 1_000_000_000n, ns % 1_000_000_000n];
  if (rest < 0n) [seconds, rest] = [seconds - 1n, rest + 1_000_000_000n];
  for (const at of [0, 16]) {
    times.writeBigInt64LE(seconds, at);
    times.writeBigInt64LE(rest, at + 8);
  }
  checked('utimensat', calls().utimensat(AT_FDCWD, terminated(path), times, AT_SYMLINK_NOFOLLOW), 'of a file');
}

const CLONE_FS = 0x200;
const CLONE_NEWNS = 0x20000;

/** Gives this thread a root, a working directory and mounts of its own. @throws SystemCallError */
export function unshareMounts(): void {
  checked('unshare', calls().unshare(CLONE_FS | CLONE_NEWNS), 'mount namespace');
}

/** Moves this thread into the mount namespace of a descriptor; its root is then the root there. @throws SystemCallError */
export function enterMountNamespace(fd: number): void {
  checked('unshare', calls().unshare(CLONE_FS), 'root and working directory');
  checked('setns', calls().setns(fd, CLONE_NEWNS), 'mount namespace');
}

/** chroot(2) of this thread, which must have unshared; its working directory becomes the new root. */
export function changeRoot(path: string): void {
  checked('chroot', calls().chroot(path), path);
  process.chdir('/');
}

/** fchdir(2). @throws SystemCallError */
export function changeDirectoryTo(fd: number): void {
  checked('fchdir', calls().fchdir(fd), `fd ${fd}`);
}

/** linux/fs.h */
const FS_IOC_GETFLAGS = 0x8008_6601;
const FS_IOC_SETFLAGS = 0x4008_6602;
const FS_TOPDIR_FL = 0x0002_0000;

/**
 * Tells the file system that the directories in this one have nothing to do with each other (chattr(1), `T`). ext4 then
 * puts each into a block group of its own. Otherwise all share one, where every new file passes over all that were
 * deleted in the last minutes: where containers come and go, that was a third of the time of a start.
 * @returns whether the file system took it; others than ext4 have no such attribute.
 */
export function spreadChildren(directory: string): boolean {
  const fd = openSync(directory, 'r');
  try {
    const flags = Buffer.alloc(8);
    if (calls().ioctl(fd, FS_IOC_GETFLAGS, flags) < 0) return false;
    flags.writeUInt32LE((flags.readUInt32LE(0) | FS_TOPDIR_FL) >>> 0, 0);
    return calls().ioctl(fd, FS_IOC_SETFLAGS, flags) === 0;
  } finally {
    closeSync(fd);
  }
}
