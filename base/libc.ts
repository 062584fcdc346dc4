import { assert } from './assert.ts';
import { ShoalError } from './errors.ts';
import { errnoOf, ffi, fromLibc } from './ffi.ts';

/*
 * The system calls that Node has no name for. All FFI of the C library stands in this file, in libc-tree.ts, in
 * libc-mounts.ts and in posix-spawn.ts. Calls are synchronous and run on the thread that makes them; what `setns` does,
 * it does to that thread alone.
 */

/** A call that may also run on a thread of the pool. */
interface Aside {
  async: (
    fd: number,
    data: Uint8Array,
    length: number,
    flags: number,
    done: (failure: unknown, result: number) => void,
  ) => void;
}

interface Libc {
  setns: (fd: number, kind: number) => number;
  unshare: (flags: number) => number;
  mount: (source: string | null, target: string, type: string | null, flags: number, data: string | null) => number;
  umount2: (target: string, flags: number) => number;
  socket: (domain: number, type: number, protocol: number) => number;
  bind: (fd: number, address: Uint8Array, length: number) => number;
  connect: (fd: number, address: Uint8Array, length: number) => number;
  listen: (fd: number, backlog: number) => number;
  send: ((fd: number, data: Uint8Array, length: number, flags: number) => number) & Aside;
  sendto: (
    fd: number,
    data: Uint8Array,
    length: number,
    flags: number,
    address: Uint8Array,
    addressLength: number,
  ) => number;
  recv: ((fd: number, data: Uint8Array, length: number, flags: number) => number) & Aside;
  setsockopt: (fd: number, level: number, name: number, value: Uint8Array, length: number) => number;
  getsockopt: (fd: number, level: number, name: number, value: Uint8Array, length: [number]) => number;
  open: (path: string, flags: number, mode: number) => number;
  close: ((fd: number) => number) & {
    async: (fd: number, done: (failure: unknown, result: number) => void) => void;
  };
  fcntl: (fd: number, command: number, argument: number) => number;
  ioctl: (fd: number, request: number, argument: number) => number;
  syscall: (number: number) => number;
  lsetxattr: (path: string, name: string, value: Uint8Array, size: number, flags: number) => number;
  mknod: (path: string, mode: number, device: number) => number;
  recvmmsg: (fd: number, vector: unknown, length: number, flags: number, timeout: null) => number;
  sendmmsg: (fd: number, vector: unknown, length: number, flags: number) => number;
}

const libc = fromLibc((lib): Libc => ({
  setns: lib.func('int setns(int fd, int nstype)'),
  unshare: lib.func('int unshare(int flags)'),
  mount: lib.func(
    'int mount(const char *src, const char *tgt, const char *type, unsigned long flags, const char *data)',
  ),
  umount2: lib.func('int umount2(const char *target, int flags)'),
  socket: lib.func('int socket(int domain, int type, int protocol)'),
  bind: lib.func('int bind(int fd, const uint8_t *addr, uint32_t len)'),
  connect: lib.func('int connect(int fd, const uint8_t *addr, uint32_t len)'),
  listen: lib.func('int listen(int fd, int backlog)'),
  send: lib.func('intptr_t send(int fd, const uint8_t *buf, size_t len, int flags)'),
  sendto: lib.func(
    'intptr_t sendto(int fd, const uint8_t *buf, size_t len, int flags, const uint8_t *addr, uint32_t alen)',
  ),
  recv: lib.func('intptr_t recv(int fd, _Out_ uint8_t *buf, size_t len, int flags)'),
  setsockopt: lib.func('int setsockopt(int fd, int level, int name, const uint8_t *value, uint32_t len)'),
  getsockopt: lib.func('int getsockopt(int fd, int level, int name, _Out_ uint8_t *value, _Inout_ uint32_t *len)'),
  open: lib.func('int open(const char *path, int flags, int mode)'),
  close: lib.func('int close(int fd)'),
  fcntl: lib.func('int fcntl(int fd, int command, long argument)'),
  ioctl: lib.func('int ioctl(int fd, unsigned long request, unsigned long argument)'),
  syscall: lib.func('long syscall(long number)'),
  lsetxattr: lib.func(
    'int lsetxattr(const char *path, const char *name, const uint8_t *value, size_t size, int flags)',
  ),
  mknod: lib.func('int mknod(const char *path, unsigned int mode, uint64_t dev)'),
  recvmmsg: lib.func('int recvmmsg(int fd, void *vec, unsigned int len, int flags, void *timeout)'),
  sendmmsg: lib.func('int sendmmsg(int fd, void *vec, unsigned int len, int flags)'),
}));

/** A failed system call: `errno` by number and name. */
export class SystemCallError extends ShoalError {
  readonly errno: number;
  constructor(call: string, errno: number, name: string, detail: string) {
    super('Internal', `${call} ${detail}: ${name}`);
    this.errno = errno;
  }
}

/** The result of a call. @throws SystemCallError when it is negative */
export function checked(call: string, result: number, detail: string): number {
  if (result >= 0) return result;
  const { errno, code } = errnoOf();
  throw new SystemCallError(call, errno, code, detail);
}

export const CLONE_NEWNET = 0x40000000;
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_SEQPACKET = 5;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
const EAGAIN = 11;
const O_RDONLY = 0;
const O_CLOEXEC = 0o2000000;

export function openReadOnly(path: string): number {
  return checked('open', libc().open(path, O_RDONLY | O_CLOEXEC, 0), path);
}

export function closeFd(fd: number): void {
  checked('close', libc().close(fd), String(fd));
}

const F_DUPFD_CLOEXEC = 1030;

/** Another descriptor of the same open file. @throws SystemCallError */
export function duplicateFd(fd: number): number {
  return checked('fcntl', libc().fcntl(fd, F_DUPFD_CLOEXEC, 0), String(fd));
}

/** Mount flags of mount(2). */
export const MS = {
  RDONLY: 1,
  NOSUID: 2,
  NODEV: 4,
  NOEXEC: 8,
  REMOUNT: 32,
  BIND: 4096,
  REC: 16384,
  PRIVATE: 1 << 18,
  SLAVE: 1 << 19,
  SHARED: 1 << 20,
} as const;

/** mount(2). @throws SystemCallError */
export function mount(
  source: string | null,
  target: string,
  type: string | null,
  flags: number,
  data: string | null,
): void {
  checked('mount', libc().mount(source, target, type, flags, data), `${type ?? 'bind'} at ${target}`);
}

export const MNT_DETACH = 2;

/** umount2(2). @throws SystemCallError */
export function unmount(target: string, flags: number = MNT_DETACH): void {
  checked('umount2', libc().umount2(target, flags), target);
}

/** lsetxattr(2): sets an extended attribute, not following a symbolic link. @throws SystemCallError */
export function setExtendedAttribute(path: string, name: string, value: string): void {
  const bytes = Buffer.from(value);
  checked('lsetxattr', libc().lsetxattr(path, name, bytes, bytes.length, 0), `${name} of ${path}`);
}

const S_IFCHR = 0o020000;

/** mknod(2) of the character device 0/0, which overlayfs reads as "removed in this layer". @throws SystemCallError */
export function makeWhiteoutDevice(path: string): void {
  checked('mknod', libc().mknod(path, S_IFCHR, 0), path);
}

const S_IFIFO = 0o010000;

/** A named pipe (mkfifo(3)), readable and writable by its owner. @throws SystemCallError */
export function makeFifo(path: string): void {
  checked('mknod', libc().mknod(path, S_IFIFO | 0o600, 0), path);
}

/**
 * Runs `inside` (synchronously) with this thread in the network namespace that `path` names, then returns to the former
 * one. Sockets made inside stay in that namespace for life.
 */
export function inNetworkNamespace<T>(path: string, inside: () => T): T {
  // Not /proc/self: that is the main thread's, which may be inside another namespace just now.
  const back = openReadOnly('/proc/thread-self/ns/net');
  try {
    const there = openReadOnly(path);
    try {
      checked('setns', libc().setns(there, CLONE_NEWNET), path);
    } finally {
      closeFd(there);
    }
    try {
      return inside();
    } finally {
      // Being left in a foreign namespace would misdirect everything that follows.
      checked('setns', libc().setns(back, CLONE_NEWNET), 'back to the own namespace');
    }
  } finally {
    closeFd(back);
  }
}

/**
 * Makes a new network namespace and binds it to `path` (an existing file), so that it lives until `unmount(path)` and
 * the end of its last user. This thread is back in its former namespace afterwards.
 * @throws SystemCallError
 */
export function createNetworkNamespace(path: string): void {
  const back = openReadOnly('/proc/thread-self/ns/net');
  try {
    checked('unshare', libc().unshare(CLONE_NEWNET), 'network namespace');
    try {
      mount('/proc/thread-self/ns/net', path, null, MS.BIND, null);
    } finally {
      checked('setns', libc().setns(back, CLONE_NEWNET), 'back to the own namespace');
    }
  } finally {
    closeFd(back);
  }
}

/** linux/sockios.h: a descriptor of the network namespace that a socket is in. */
const SIOCGSKNS = 0x894c;

/** Binds the network namespace that a socket lives in to `path` (an existing file). @throws SystemCallError */
export function bindNamespaceOfSocket(socket: number, path: string): void {
  const namespace = checked('ioctl', libc().ioctl(socket, SIOCGSKNS, 0), 'namespace of a socket');
  try {
    mount(`/proc/thread-self/fd/${namespace}`, path, null, MS.BIND, null);
  } finally {
    closeFd(namespace);
  }
}

function aside(call: 'send' | 'recv', fd: number, data: Uint8Array, flags: number): Promise<number> {
  return new Promise((resolve, reject) => {
    libc()[call].async(fd, data, data.length, flags, (failure, result) => {
      if (result >= 0 && (failure === null || failure === undefined)) resolve(result);
      else reject(new ShoalError('Internal', `${call} on descriptor ${fd} failed`, { cause: failure }));
    });
  });
}

/** As `closeFd`, on a thread of the pool: a socket of nftables waits for what the kernel still clears away (10 ms). */
export function closeFdAside(fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    libc().close.async(fd, (failure, result) => {
      if (result === 0 && (failure === null || failure === undefined)) resolve();
      else reject(new ShoalError('Internal', `closing descriptor ${fd} failed`, { cause: failure }));
    });
  });
}

/** socket(2), bind(2), connect(2), listen(2), send(2), recv(2) on raw descriptors; the caller closes them. */
export const sockets = {
  open: (domain: number, type: number, protocol = 0): number =>
    checked('socket', libc().socket(domain, type | SOCK_CLOEXEC, protocol), `domain ${domain}`),
  bind: (fd: number, address: Uint8Array): void => {
    checked('bind', libc().bind(fd, address, address.length), `fd ${fd}`);
  },
  connect: (fd: number, address: Uint8Array): void => {
    checked('connect', libc().connect(fd, address, address.length), `fd ${fd}`);
  },
  listen: (fd: number, backlog: number): void => {
    checked('listen', libc().listen(fd, backlog), `fd ${fd}`);
  },
  setOption: (fd: number, level: number, name: number, value: Uint8Array): void => {
    checked('setsockopt', libc().setsockopt(fd, level, name, value, value.length), `fd ${fd}`);
  },
  /** An option whose value is a number. */
  numberOption: (fd: number, level: number, name: number): number => {
    const value = Buffer.alloc(4);
    checked('getsockopt', libc().getsockopt(fd, level, name, value, [value.length]), `fd ${fd}`);
    return value.readInt32LE(0);
  },
  send: (fd: number, data: Uint8Array, flags = 0): number =>
    checked('send', libc().send(fd, data, data.length, flags), `fd ${fd}`),
  sendTo: (fd: number, data: Uint8Array, address: Uint8Array, flags = 0): number =>
    checked('sendto', libc().sendto(fd, data, data.length, flags, address, address.length), `fd ${fd}`),
  /** Reads one datagram into `into`; returns its length. */
  receive: (fd: number, into: Uint8Array, flags = 0): number =>
    checked('recv', libc().recv(fd, into, into.length, flags), `fd ${fd}`),
  /** As `receive`, without waiting; undefined when nothing has come. */
  tryReceive: (fd: number, into: Uint8Array): number | undefined => {
    const length = libc().recv(fd, into, into.length, MSG_DONTWAIT);
    if (length < 0 && ffi().errno() === EAGAIN) return undefined;
    return checked('recv', length, `fd ${fd}`);
  },
  /** As `send`, on a thread of the pool: for requests that the kernel works on for milliseconds inside the call. */
  sendAside: (fd: number, data: Uint8Array, flags = 0): Promise<number> => aside('send', fd, data, flags),
  /** As `receive`, on a thread of the pool. */
  receiveAside: (fd: number, into: Uint8Array, flags = 0): Promise<number> => aside('recv', fd, into, flags),
};

/** Memory that stays in its place, so that the kernel can be told its address. Lives as long as `bytes` is held. */
export interface NativeMemory {
  /** To be passed to a call. */
  pointer: unknown;
  address: bigint;
  bytes: Buffer;
}

export function nativeMemory(length: number): NativeMemory {
  const pointer: unknown = ffi().alloc('uint8_t', length);
  const bytes = Buffer.from(ffi().view(pointer, length));
  bytes.fill(0);
  return { pointer, address: ffi().address(pointer), bytes };
}

/** recvmmsg(2) and sendmmsg(2) on a vector of `struct mmsghdr` in native memory: messages done; 0 when none could be. */
export const manyMessages = {
  receive: (fd: number, vector: NativeMemory, count: number): number =>
    Math.max(0, libc().recvmmsg(fd, vector.pointer, count, MSG_DONTWAIT, null)),
  send: (fd: number, vector: NativeMemory, count: number): number =>
    Math.max(0, libc().sendmmsg(fd, vector.pointer, count, MSG_DONTWAIT)),
};
const MSG_DONTWAIT = 0x40;

/** A sockaddr_in for bind and connect. */
export function socketAddress4(address: string, port: number): Uint8Array {
  const bytes = new Uint8Array(16);
  new DataView(bytes.buffer).setUint16(0, AF_INET, true);
  new DataView(bytes.buffer).setUint16(2, port, false);
  address.split('.').forEach((part, i) => {
    bytes[4 + i] = Number(part);
  });
  return bytes;
}

/** A sockaddr_in6 without scope for bind and connect. The address may be shortened and end in an IPv4 address. */
export function socketAddress6(address: string, port: number): Uint8Array {
  const bytes = new Uint8Array(28);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, AF_INET6, true);
  view.setUint16(2, port, false);
  const words = (text: string): number[] =>
    text.split(':').flatMap((part) => {
      if (part === '') return [];
      const [a, b, c, d] = part.split('.').map(Number);
      if (b === undefined || c === undefined || d === undefined) return [parseInt(part, 16)];
      return [(a ?? 0) * 256 + b, c * 256 + d];
    });
  const [head = '', tail] = address.split('::');
  words(head).forEach((word, i) => view.setUint16(8 + i * 2, word, false));
  const last = tail === undefined ? [] : words(tail);
  last.forEach((word, i) => view.setUint16(8 + (8 - last.length + i) * 2, word, false));
  return bytes;
}

/** A sockaddr_un for a path of at most 107 bytes. */
export function socketAddressUnix(path: string): Uint8Array {
  const name = Buffer.from(path);
  assert(name.length <= 107, `a unix socket path has at most 107 bytes: ${path}`);
  const bytes = new Uint8Array(2 + name.length + 1);
  new DataView(bytes.buffer).setUint16(0, AF_UNIX, true);
  bytes.set(name, 2);
  return bytes;
}

/** Bit that marks a call of the x32 interface, and the number of getpid on x86-64 (asm/unistd_64.h). */
const X32_CALL = 0x40000000;
const GETPID = 39;

/**
 * Whether this kernel runs x32 programs (CONFIG_X86_X32_ABI); few distributions' kernels do. Asks by a call of that
 * interface that changes nothing: a kernel without it answers ENOSYS.
 */
export function kernelRunsX32(): boolean {
  return process.arch === 'x64' && libc().syscall(X32_CALL + GETPID) === process.pid;
}

const mallocTrim = fromLibc((lib): ((pad: number) => number) => lib.func('int malloc_trim(size_t pad)'));

/** Gives pages that malloc holds free back to the system (malloc_trim(3)); C libraries other than glibc need no telling. */
export function returnFreeMemory(): void {
  try {
    mallocTrim()(0);
  } catch {
    // Not glibc.
  }
}
