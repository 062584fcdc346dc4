/** Bytes of a data key (AES-256-GCM). */
export const LOG_KEY_BYTES = 32;

/** A data key. */
export interface LogKey {
  /** 1 to 2^32 - 1, never used again for another key; stands beside what it encrypts. */
  id: number;
  secret: Uint8Array;
}

/** The data keys of one member: what the log and its snapshots are encrypted with on the disk. */
export interface LogKeyRing {
  /** Key for everything written from now on; null writes in clear. */
  current(): LogKey | null;
  /** A key by its id; undefined when it is not known any more. */
  find(id: number): LogKey | undefined;
  /** Nothing on the disk needs any key but these (0 stands for clear) any more: others can be forgotten. */
  retain(ids: ReadonlySet<number>): void;
}
