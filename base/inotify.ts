import { Socket } from 'node:net';
import { ShoalError } from './errors.ts';
import { errnoOf, fromLibc } from './ffi.ts';

/* inotify(7) with a mask of our own: node's fs.watch asks for every write, which floods beside a busy log. */

interface InotifyCalls {
  inotify_init1(flags: number): number;
  inotify_add_watch(fd: number, path: string, mask: number): number;
  inotify_rm_watch(fd: number, watch: number): number;
}

/** What node gives no public way to: a stream over a descriptor that epoll can wait for. */
interface PipeHandle {
  open(fd: number): void;
}
type PipeBinding = { Pipe: new (type: number) => PipeHandle };

const IN_MOVED_TO = 0x80;
const IN_IGNORED = 0x8000;
const IN_Q_OVERFLOW = 0x4000;
const IN_CLOEXEC = 0o2000000;
const IN_NONBLOCK = 0o4000;
/** struct inotify_event without its name: watch, mask, cookie, length of the name. */
const HEADER_BYTES = 16;

const calls = fromLibc((lib): InotifyCalls => ({
  inotify_init1: lib.func('int inotify_init1(int flags)'),
  inotify_add_watch: lib.func('int inotify_add_watch(int fd, const char *path, uint32_t mask)'),
  inotify_rm_watch: lib.func('int inotify_rm_watch(int fd, int wd)'),
}));

/** Tells when something is renamed into one of many directories: one descriptor, nothing to do while nothing happens. */
export class MoveWatcher {
  readonly #fd: number;
  readonly #stream: Socket;
  readonly #listeners = new Map<number, Set<(name: string) => void>>();

  /** @throws ShoalError Unavailable when the system has no inotify instance left. */
  constructor() {
    this.#fd = calls().inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (this.#fd < 0) {
      throw new ShoalError(
        'Unavailable',
        `inotify_init1 failed (${errnoOf().code}): raise the sysctl fs.inotify.max_user_instances`,
      );
    }
    const { Pipe } = (process as unknown as { binding(name: string): PipeBinding }).binding('pipe_wrap');
    const handle = new Pipe(0);
    handle.open(this.#fd);
    this.#stream = new Socket({ handle, readable: true, writable: false } as object);
    this.#stream.on('data', (events: Buffer) => this.#tell(events));
    this.#stream.on('error', () => this.#stream.destroy());
    this.#stream.unref();
  }

  /** @returns ends the watch. @throws ShoalError when the directory cannot be watched. */
  watch(directory: string, onMoved: (name: string) => void): () => void {
    const watch = calls().inotify_add_watch(this.#fd, directory, IN_MOVED_TO);
    if (watch < 0) {
      throw new ShoalError(
        'Unavailable',
        `${directory} cannot be watched (${errnoOf().code}): raise the sysctl fs.inotify.max_user_watches`,
      );
    }
    const listeners = this.#listeners.get(watch) ?? new Set();
    this.#listeners.set(watch, listeners.add(onMoved));
    return () => {
      listeners.delete(onMoved);
      if (listeners.size > 0 || this.#listeners.get(watch) !== listeners) return;
      this.#listeners.delete(watch);
      // It fails when the directory is gone; the kernel has then ended the watch itself.
      if (!this.#stream.destroyed) calls().inotify_rm_watch(this.#fd, watch);
    };
  }

  #tell(events: Buffer): void {
    for (let at = 0; at + HEADER_BYTES <= events.length;) {
      const watch = events.readInt32LE(at);
      const mask = events.readUInt32LE(at + 4);
      const length = events.readUInt32LE(at + 12);
      const name = events.toString('utf8', at + HEADER_BYTES, at + HEADER_BYTES + length).replace(/\0+$/, '');
      at += HEADER_BYTES + length;
      if ((mask & IN_IGNORED) !== 0) this.#listeners.delete(watch);
      // Events were lost: everybody looks.
      const told = (mask & IN_Q_OVERFLOW) !== 0 ? [...this.#listeners.values()] : [this.#listeners.get(watch) ?? []];
      for (const listeners of told) for (const listener of [...listeners]) listener(name);
    }
  }

  close(): void {
    this.#listeners.clear();
    this.#stream.destroy();
  }
}
