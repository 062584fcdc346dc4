import { readContent, type Manifest } from './content.ts';
import { restoredImage, type RestoreImage, type RestoreOptions } from './restored.ts';

export { recordsOf } from './content.ts';
export { writeBackup } from './format.ts';
export type { RestoreImage, RestoreOptions } from './restored.ts';

/** What `shoal swarm backup --inspect` shows. */
export interface BackupFacts extends Manifest {
  format: number;
  /** Version of Shoal that wrote it. */
  version: string;
  createdMs: number;
  encrypted: boolean;
  services: string[];
  nodes: { id: string; hostname: string }[];
}

/** Reads and checks a whole backup and tells what is in it. @throws ShoalError InvalidArgument, FailedPrecondition, DataLoss */
export async function inspectBackup(
  source: AsyncIterable<Uint8Array>,
  passphrase: string | undefined,
): Promise<BackupFacts> {
  const { header, manifest, tables } = await readContent(source, passphrase);
  return {
    format: header.format,
    version: header.version,
    createdMs: header.createdMs,
    encrypted: header.encryption !== null,
    ...manifest,
    services: tables
      .list('service')
      .map((service) => service.spec?.annotations?.name ?? service.id)
      .sort(),
    nodes: tables.list('node').map(({ id, description }) => ({ id, hostname: description?.hostname ?? '' })),
  };
}

/** Reads a backup for `Manager.start` of kind "restore". @throws ShoalError as `inspectBackup` */
export async function readRestoreImage(
  source: AsyncIterable<Uint8Array>,
  passphrase: string | undefined,
  how: RestoreOptions,
): Promise<RestoreImage> {
  return restoredImage(await readContent(source, passphrase), how);
}
