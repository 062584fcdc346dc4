import { rename, writeFile } from 'node:fs/promises';

/** A user of the host: the one that a container's process is. */
export interface HostUser {
  uid: number;
  gid: number;
}

/** Names by which the program below learns what to do. */
const RUNTIME = 'SHOAL_RUNTIME';
const OWNER = 'SHOAL_OUTPUT_OWNER';

/**
 * Stands between the monitor and the runtime for containers whose users are others on the host. The monitor's pipes are
 * root's, so a process in a user namespace could not open /dev/stdout again, as log files of many images do; the runtime
 * cannot give them away from inside. A file of its own, because the monitor takes no arguments for the runtime's program.
 */
const PROGRAM = `#!/bin/sh
pipes=
for fd in 0 1 2; do
  if [ -p /proc/self/fd/$fd ]; then pipes="$pipes /proc/self/fd/$fd"; fi
done
[ -z "$pipes" ] || chown "$${OWNER}" $pipes || exit 1
exec "$${RUNTIME}" "$@"
`;

/** Puts the program at `path`, whole or not at all. */
export async function writeOutputOwner(path: string): Promise<void> {
  const beside = `${path}.${process.pid}`;
  await writeFile(beside, PROGRAM, { mode: 0o700 });
  await rename(beside, path);
}

/** What the environment of the program must hold. */
export function outputOwnerEnv(runtime: string, { uid, gid }: HostUser): Record<string, string> {
  return { [RUNTIME]: runtime, [OWNER]: `${uid}:${gid}` };
}
