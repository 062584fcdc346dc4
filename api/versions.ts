import { ShoalError } from '../base/index.ts';

/** Newest and oldest version of the Docker Engine API that is served. */
export const API_VERSION = '1.50';
export const MIN_API_VERSION = '1.24';

function parts(version: string): [number, number] {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  return [major, minor];
}

/** Whether version `a` is older than version `b`. */
export function olderThan(a: string, b: string): boolean {
  const [aMajor, aMinor] = parts(a);
  const [bMajor, bMinor] = parts(b);
  return aMajor < bMajor || (aMajor === bMajor && aMinor < bMinor);
}

/** Refuses a version outside what is served, in Docker's words. @throws ShoalError InvalidArgument */
export function checkVersion(version: string): void {
  if (olderThan(API_VERSION, version)) {
    throw new ShoalError(
      'InvalidArgument',
      `client version ${version} is too new. Maximum supported API version is ${API_VERSION}`,
    );
  }
  if (olderThan(version, MIN_API_VERSION)) {
    throw new ShoalError(
      'InvalidArgument',
      `client version ${version} is too old. Minimum supported API version is ${MIN_API_VERSION}, ` +
        'please upgrade your client to a newer version',
    );
  }
}
