import { invalidArgument, ShoalError } from '../../base/index.ts';
import type { Meta, Version } from '../../proto/index.ts';

/**
 * Checks that the caller has read the newest version.
 * @throws ShoalError InvalidArgument when it names none, Unknown "update out of sequence" when it names another.
 */
export function checkVersion(object: { meta: Meta | null }, version: Version | null): void {
  if (version === null) throw invalidArgument('the version of the object must be provided');
  if (object.meta?.version?.index !== version.index) throw new ShoalError('Unknown', 'update out of sequence');
}
