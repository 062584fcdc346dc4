import { conflict, invalidArgument, type ShoalError } from '../../base/index.ts';

/** @throws ShoalError InvalidArgument in Docker's words. */
export function checkName(name: string): void {
  if (!/^[a-zA-Z0-9][a-zA-Z0-9_.-]+$/.test(name)) {
    throw invalidArgument(`Invalid container name (${name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed`);
  }
}

export function nameConflict(name: string, id: string): Error {
  return conflict(
    `Conflict. The container name "/${name}" is already in use by container "${id}". ` +
      'You have to remove (or rename) that container to be able to reuse that name.',
  );
}

export function removalUnderWay(called: string): ShoalError {
  return conflict(`removal of container ${called} is already in progress`);
}

/** @param state of a container that has a process, or waits to be started again. */
export function runningConflict(name: string, state: string): ShoalError {
  const way = 'stop the container before removing or force remove';
  const words = state === 'paused' ? `unpause and then ${way}` : way;
  return conflict(`cannot remove container "${name}": container is ${state}: ${words}`);
}
