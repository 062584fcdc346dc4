import { createCipheriv, createDecipheriv, createHash, scrypt, timingSafeEqual } from 'node:crypto';
import { promisify } from 'node:util';
import { invalidArgument, ShoalError, type Random } from '../../base/index.ts';

/** scrypt's cost (RFC 7914): 32 MiB and about 0.1 s for each guess. */
const COST = { n: 2 ** 15, r: 8, p: 1 };
/** What a file may ask of its reader at the most. */
const COST_MAX = { n: 2 ** 20, r: 32, p: 16 };
const SALT_BYTES = 16;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;
export const TAG_BYTES = 16;

/** How a backup is encrypted, as its header says it. Bytes are hexadecimal. */
export interface Encryption {
  kdf: 'scrypt';
  cipher: 'aes-256-gcm';
  salt: string;
  n: number;
  r: number;
  p: number;
  /** Digest of the second half of what scrypt gives: tells a wrong passphrase from a damaged file. */
  check: string;
}

const derive = promisify(
  (passphrase: string, salt: Buffer, { n, r, p }: typeof COST, done: (error: Error | null, key: Buffer) => void) =>
    scrypt(passphrase.normalize('NFC'), salt, 2 * KEY_BYTES, { N: n, r, p, maxmem: 256 * n * r }, done),
);

const digest = (bytes: Uint8Array): Buffer => createHash('sha256').update(bytes).digest();

/** Encrypts and decrypts the chunks of one file; chunk numbers are its nonces, so a key serves one file only. */
export class ChunkCipher {
  readonly #key: Buffer;

  private constructor(key: Buffer) {
    this.#key = key;
  }

  /** A new key from a passphrase, with what the header must say of it. */
  static async create(passphrase: string, random: Random): Promise<{ cipher: ChunkCipher; encryption: Encryption }> {
    const salt = Buffer.from(random.bytes(SALT_BYTES));
    const derived = await derive(passphrase, salt, COST);
    const check = digest(derived.subarray(KEY_BYTES)).toString('hex');
    const encryption: Encryption = {
      kdf: 'scrypt',
      cipher: 'aes-256-gcm',
      salt: salt.toString('hex'),
      ...COST,
      check,
    };
    return { cipher: new ChunkCipher(derived.subarray(0, KEY_BYTES)), encryption };
  }

  /** @throws ShoalError InvalidArgument for a wrong passphrase, DataLoss for a header that cannot be right */
  static async open(passphrase: string, encryption: Encryption): Promise<ChunkCipher> {
    const { kdf, cipher, n, r, p, salt, check } = encryption;
    const sane = (['n', 'r', 'p'] as const).every(
      (name) => Number.isSafeInteger(encryption[name]) && encryption[name] > 0 && encryption[name] <= COST_MAX[name],
    );
    if (kdf !== 'scrypt' || cipher !== 'aes-256-gcm' || !sane) {
      throw new ShoalError('DataLoss', 'the backup is damaged: its header names no encryption that exists');
    }
    const derived = await derive(passphrase, Buffer.from(salt, 'hex'), { n, r, p });
    const found = digest(derived.subarray(KEY_BYTES));
    const wanted = Buffer.from(check, 'hex');
    if (wanted.length !== found.length || !timingSafeEqual(found, wanted)) {
      throw invalidArgument('the passphrase is wrong: this is not the one that the backup was made with');
    }
    return new ChunkCipher(derived.subarray(0, KEY_BYTES));
  }

  #nonce(number: number): Buffer {
    const nonce = Buffer.alloc(NONCE_BYTES);
    nonce.writeUInt32BE(number, NONCE_BYTES - 4);
    return nonce;
  }

  /** @param bound what is not encrypted but must not be changed either. */
  seal(number: number, bound: Uint8Array, plain: Uint8Array): Buffer {
    const cipher = createCipheriv('aes-256-gcm', this.#key, this.#nonce(number));
    cipher.setAAD(bound);
    return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()]);
  }

  /** @throws Error when a bit of it is not as it was sealed */
  open(number: number, bound: Uint8Array, sealed: Uint8Array): Buffer {
    const at = sealed.length - TAG_BYTES;
    const decipher = createDecipheriv('aes-256-gcm', this.#key, this.#nonce(number), { authTagLength: TAG_BYTES });
    decipher.setAAD(bound);
    decipher.setAuthTag(sealed.subarray(at));
    return Buffer.concat([decipher.update(sealed.subarray(0, at)), decipher.final()]);
  }
}
