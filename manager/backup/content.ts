import { errorMessage, isShoalError, ShoalError } from '../../base/index.ts';
import type { MessageType } from '../../proto/index.ts';
import type { Member } from '../membership/index.ts';
import { TYPES } from '../store/codec.ts';
import { TableSet } from '../store/tables.ts';
import type { Kind, ReadView, Tables } from '../store/types.ts';
import { readBackup, type BackupHeader, type BackupRecord } from './format.ts';

/** Kinds of records. Numbers are never used again for something else. */
const MANIFEST = 1;
const END = 2;
const OBJECTS: { readonly [K in Kind]: number } = {
  cluster: 16,
  node: 17,
  service: 18,
  network: 19,
  task: 20,
  secret: 21,
  config: 22,
  revision: 23,
};
const KIND_OF = new Map<number, Kind>(Object.entries(OBJECTS).map(([kind, number]) => [number, kind as Kind]));

/** What a backup says of itself; the first record. Times are Unix ms. */
export interface Manifest {
  clusterId: string;
  /** Manager that wrote it. */
  nodeId: string;
  /** Last log entry in it. */
  raftIndex: number;
  raftTerm: number;
  /** Taken without asking the leader: newer changes may be missing. */
  stale: boolean;
  autolock: boolean;
  newestChangeMs: number | null;
  members: Member[];
  /** Objects by kind. */
  counts: Record<Kind, number>;
}

/** The records of a backup. The view is read at once, its objects are encoded one by one as they are taken. */
export function recordsOf(view: ReadView, about: Omit<Manifest, 'counts'>): Iterable<BackupRecord> {
  const kinds = Object.keys(OBJECTS) as Kind[];
  // Objects of the store are never changed, only replaced: these lists stay one state while the store moves on.
  const lists = new Map(kinds.map((kind) => [kind, view.list(kind)]));
  const counts = Object.fromEntries(kinds.map((kind) => [kind, lists.get(kind)?.length ?? 0])) as Record<Kind, number>;
  return encoded(lists, { ...about, counts });
}

function* encoded(lists: ReadonlyMap<Kind, Tables[Kind][]>, manifest: Manifest): Generator<BackupRecord> {
  yield { kind: MANIFEST, data: Buffer.from(JSON.stringify(manifest)) };
  let objects = 0;
  for (const [kind, list] of lists) {
    const type = TYPES[kind] as MessageType<Tables[Kind]>;
    for (const object of list) {
      objects++;
      yield { kind: OBJECTS[kind], data: type.encode(object) };
    }
  }
  yield { kind: END, data: Buffer.from(JSON.stringify({ objects })) };
}

export interface BackupContent {
  header: BackupHeader;
  manifest: Manifest;
  tables: TableSet;
}

/**
 * Reads a whole backup and checks it.
 * @throws ShoalError as `readBackup`, and DataLoss when it is not whole
 */
export async function readContent(
  source: AsyncIterable<Uint8Array>,
  passphrase: string | undefined,
): Promise<BackupContent> {
  try {
    return await readAll(source, passphrase);
  } catch (error) {
    if (isShoalError(error)) throw error;
    // Without encryption a damaged object is met before the checksum at the end.
    throw new ShoalError('DataLoss', `the backup is damaged: ${errorMessage(error)}; take another copy of it`, {
      cause: error,
    });
  }
}

async function readAll(source: AsyncIterable<Uint8Array>, passphrase: string | undefined): Promise<BackupContent> {
  const { header, records } = await readBackup(source, passphrase);
  const tables = new TableSet();
  let manifest: Manifest | undefined;
  let objects = 0;
  let announced: number | undefined;
  for await (const { kind, data } of records()) {
    const object = KIND_OF.get(kind);
    if (object !== undefined) {
      objects++;
      tables.put(object, (TYPES[object] as MessageType<Tables[Kind]>).decode(new Uint8Array(data)));
    } else if (kind === MANIFEST) manifest = JSON.parse(Buffer.from(data).toString('utf8')) as Manifest;
    else if (kind === END) announced = (JSON.parse(Buffer.from(data).toString('utf8')) as { objects: number }).objects;
    else throw new ShoalError('DataLoss', `the backup holds records of a kind that is not known (${kind})`);
  }
  if (manifest === undefined || announced !== objects) {
    throw new ShoalError(
      'DataLoss',
      `the backup is not whole: ${objects} of ${announced ?? 'an unknown number of'} objects`,
    );
  }
  return { header, manifest, tables };
}
