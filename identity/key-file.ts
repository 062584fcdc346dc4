import {
  createCipheriv,
  createDecipheriv,
  createPrivateKey,
  hkdfSync,
  randomBytes,
  type KeyExportOptions,
} from 'node:crypto';
import { ShoalError } from '../base/index.ts';

const SEAL = 'aes-256-gcm';
const SEAL_KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;
const VERSION_HEADER = 'kek-version';
const BLOCK = /-----BEGIN (ENCRYPTED )?PRIVATE KEY-----\n([^]*?)-----END \1?PRIVATE KEY-----/;

/** What keeps the secrets of a node from being read off its disk. */
export interface KeyLock {
  /** The unlock key (KEK); null leaves the secrets in clear. */
  secret: Uint8Array | null;
  /** Version of the cluster object that said so; a lock gives way only to a newer one. */
  version: number;
}

export const NO_LOCK: KeyLock = { secret: null, version: 0 };

/** A key file with everything in clear. */
export interface KeyFile {
  /** Private key, PKCS#8 in PEM. */
  key: string;
  /** Further secrets that stand and fall with the key, by name. */
  headers: ReadonlyMap<string, Uint8Array>;
  lock: KeyLock;
}

/** A key file as it lies on the disk. */
export interface StoredKeyFile {
  locked: boolean;
  version: number;
  pem: string;
  headers: Map<string, Buffer>;
}

const sealKey = (secret: Uint8Array, name: string): Buffer =>
  Buffer.from(hkdfSync('sha256', secret, '', `shoal key file: ${name}`, SEAL_KEY_BYTES));

function seal(content: Uint8Array, secret: Uint8Array, name: string): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv(SEAL, sealKey(secret, name), nonce);
  return Buffer.concat([nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()]);
}

/** @throws Error when the secret is another or the bytes were changed */
function unseal(bytes: Buffer, secret: Uint8Array, name: string): Buffer {
  const nonce = bytes.subarray(0, NONCE_BYTES);
  const decipher = createDecipheriv(SEAL, sealKey(secret, name), nonce, { authTagLength: TAG_BYTES });
  decipher.setAuthTag(bytes.subarray(bytes.length - TAG_BYTES));
  return Buffer.concat([decipher.update(bytes.subarray(NONCE_BYTES, bytes.length - TAG_BYTES)), decipher.final()]);
}

/**
 * Text of a key file: one PEM block with headers, as SwarmKit writes it (swarmkit.md §2.6). With a lock the key is
 * encrypted PKCS#8 (PBES2, AES-256-CBC) under the unlock key, and each header is sealed by AES-256-GCM under a key that is
 * derived from it (HKDF, RFC 5869).
 */
export function encodeKeyFile({ key, headers, lock }: KeyFile): string {
  const { secret } = lock;
  const form: KeyExportOptions<'pem'> = { type: 'pkcs8', format: 'pem' };
  if (secret !== null) Object.assign(form, { cipher: 'aes-256-cbc', passphrase: Buffer.from(secret) });
  const pem = createPrivateKey(key).export(form) as string;
  const lines = [`${VERSION_HEADER}: ${lock.version}`];
  for (const [name, content] of headers) {
    const bytes = secret === null ? Buffer.from(content) : seal(content, secret, name);
    lines.push(`${name}: ${bytes.toString('base64')}`);
  }
  const at = pem.indexOf('\n') + 1;
  return `${pem.slice(0, at)}${lines.join('\n')}\n\n${pem.slice(at)}`;
}

/** @throws ShoalError InvalidArgument when the text holds no private key */
export function parseKeyFile(text: string): StoredKeyFile {
  const match = BLOCK.exec(text);
  if (match === null) throw new ShoalError('InvalidArgument', 'a private key in PEM is expected');
  const [, encrypted = '', content = ''] = match;
  const at = content.indexOf('\n\n');
  const headers = new Map<string, Buffer>();
  let version = 0;
  for (const line of at < 0 ? [] : content.slice(0, at).split('\n')) {
    const colon = line.indexOf(': ');
    const [name, value] = [line.slice(0, colon), line.slice(colon + 2)];
    if (name === VERSION_HEADER) version = Number(value);
    else headers.set(name, Buffer.from(value, 'base64'));
  }
  if (!Number.isSafeInteger(version)) throw new ShoalError('InvalidArgument', `bad ${VERSION_HEADER} in a key file`);
  const label = `${encrypted}PRIVATE KEY`;
  const body = at < 0 ? content : content.slice(at + 2);
  const pem = `-----BEGIN ${label}-----\n${body}-----END ${label}-----\n`;
  return { locked: encrypted !== '', version, pem, headers };
}

/** The private key in clear; undefined when the secret is another. */
function decryptKey(pem: string, secret: Uint8Array): string | undefined {
  try {
    const key = createPrivateKey({ key: pem, passphrase: Buffer.from(secret) });
    return key.export({ type: 'pkcs8', format: 'pem' }) as string;
  } catch {
    // OpenSSL says no more than that it does not fit.
    return undefined;
  }
}

/**
 * The content of a key file, read with an unlock key (null: with none).
 * @returns undefined when the file is locked and the key does not open it
 * @throws ShoalError DataLoss when a header was damaged
 */
export function openKeyFile(stored: StoredKeyFile, secret: Uint8Array | null): KeyFile | undefined {
  const { locked, version, pem, headers } = stored;
  if (!locked) return { key: pem, headers, lock: { secret: null, version } };
  const key = secret === null ? undefined : decryptKey(pem, secret);
  if (secret === null || key === undefined) return undefined;
  try {
    const opened = [...headers].map(([name, bytes]) => [name, unseal(bytes, secret, name)] as const);
    return { key, headers: new Map(opened), lock: { secret, version } };
  } catch (error) {
    throw new ShoalError('DataLoss', 'the secrets beside the private key of this node are damaged', { cause: error });
  }
}
