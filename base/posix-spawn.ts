import { errnoOf, ffi, fromLibc, type Errno } from './ffi.ts';

/*
 * posix_spawn(3) of the C library: a child that shares the caller's memory until its program is loaded, so its cost does
 * not grow with the daemon's memory. The call waits for the load, on a thread of the pool.
 */
type Done = (failure: unknown, result: number) => void;

interface Spawn {
  spawn: {
    async: (
      pid: [number],
      file: string,
      actions: unknown,
      attributes: unknown,
      argv: readonly (string | null)[],
      envp: readonly (string | null)[],
      done: Done,
    ) => void;
  };
  initActions: (actions: unknown) => number;
  destroyActions: (actions: unknown) => number;
  addDup2: (actions: unknown, from: number, to: number) => number;
  addChdir: (actions: unknown, path: string) => number;
  /** One for all: every signal as by default, none held back. */
  attributes: unknown;
  pipe2: (fds: [number, number], flags: number) => number;
  waitpid: (pid: number, status: [number], options: number) => number;
}

/** Larger than the structures of any C library: posix_spawn_file_actions_t (80), posix_spawnattr_t (336), sigset_t (128). */
const STRUCT_BYTES = 512;
/** spawn.h */
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const O_CLOEXEC = 0o2000000;
const WNOHANG = 1;

const struct = (): unknown => ffi().alloc('uint8_t', STRUCT_BYTES);

const library = fromLibc((lib): Spawn => {
  const [attributes, all, none] = [struct(), struct(), struct()];
  lib.func('int sigfillset(void *set)')(all);
  lib.func('int sigemptyset(void *set)')(none);
  lib.func('int posix_spawnattr_init(void *attr)')(attributes);
  lib.func('int posix_spawnattr_setsigdefault(void *attr, void *set)')(attributes, all);
  lib.func('int posix_spawnattr_setsigmask(void *attr, void *set)')(attributes, none);
  const flags = POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK;
  lib.func('int posix_spawnattr_setflags(void *attr, short flags)')(attributes, flags);
  return {
    attributes,
    spawn: lib.func(
      'int posix_spawnp(_Out_ int *pid, const char *file, void *actions, void *attr, const char **argv, const char **envp)',
    ),
    initActions: lib.func('int posix_spawn_file_actions_init(void *actions)'),
    destroyActions: lib.func('int posix_spawn_file_actions_destroy(void *actions)'),
    addDup2: lib.func('int posix_spawn_file_actions_adddup2(void *actions, int from, int to)'),
    addChdir: lib.func('int posix_spawn_file_actions_addchdir_np(void *actions, const char *path)'),
    pipe2: lib.func('int pipe2(_Out_ int *fds, int flags)'),
    waitpid: lib.func('int waitpid(int pid, _Out_ int *status, int options)'),
  };
});

/** A pipe whose ends no other child inherits. @throws Error when no descriptor is left */
export function makePipe(): { read: number; write: number } {
  const fds: [number, number] = [-1, -1];
  if (library().pipe2(fds, O_CLOEXEC) < 0) throw new Error(`pipe2: ${errnoOf().code}`);
  return { read: fds[0], write: fds[1] };
}

export interface SpawnCall {
  /** Searched in PATH when it has no slash. */
  file: string;
  args: readonly string[];
  env: readonly string[];
  cwd: string | undefined;
  /** Our descriptors that the child gets as 0, 1, 2, …; they stay ours. */
  descriptors: readonly number[];
}

/** Starts a child and resolves with its process id, or with the error of posix_spawn. */
export function posixSpawn(call: SpawnCall): Promise<{ pid: number } | Errno> {
  const { spawn, initActions, destroyActions, addDup2, addChdir, attributes } = library();
  const actions = struct();
  initActions(actions);
  call.descriptors.forEach((fd, index) => addDup2(actions, fd, index));
  if (call.cwd !== undefined) addChdir(actions, call.cwd);
  const pid: [number] = [0];
  return new Promise((resolve, reject) => {
    const argv = [call.file, ...call.args, null];
    spawn.async(pid, call.file, actions, attributes, argv, [...call.env, null], (failure, result) => {
      destroyActions(actions);
      ffi().free(actions);
      if (failure !== null && failure !== undefined)
        reject(new Error('posix_spawn could not be called', { cause: failure }));
      else if (result !== 0) resolve(errnoOf(result));
      else resolve({ pid: pid[0] });
    });
  });
}

/** The wait status of a child that has ended, which is then forgotten by the kernel; undefined while it runs. */
export function reapChild(pid: number): number | undefined {
  const status: [number] = [0];
  return library().waitpid(pid, status, WNOHANG) === pid ? status[0] : undefined;
}
