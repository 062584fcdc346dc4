const BLOCK_BYTES = 512;

/** One member of an archive that no honest program would write. */
export interface WrittenMember {
  name: string;
  /** Type flag; default '0', a regular file. */
  type?: string;
  linkName?: string;
  content?: Uint8Array | string;
  /** The size that the header tells; default that of the content. */
  size?: number;
  mode?: number;
  /** Of devices. */
  major?: number;
  minor?: number;
}

function padded(bytes: Buffer): Buffer {
  const rest = bytes.length % BLOCK_BYTES;
  return rest === 0 ? bytes : Buffer.concat([bytes, Buffer.alloc(BLOCK_BYTES - rest)]);
}

/** Header and content of one member (POSIX ustar). */
export function tarMember(member: WrittenMember): Buffer {
  const { name, type = '0', linkName = '', content = '', mode = 0o644, major = 0, minor = 0 } = member;
  const body = Buffer.from(content as string);
  const header = Buffer.alloc(BLOCK_BYTES);
  const octal = (value: number, at: number, length: number): void => {
    header.write(`${value.toString(8).padStart(length - 1, '0')}\0`, at, 'latin1');
  };
  header.write(name, 0, 100, 'utf8');
  octal(mode, 100, 8);
  octal(0, 108, 8);
  octal(0, 116, 8);
  octal(member.size ?? body.length, 124, 12);
  octal(0, 136, 12);
  header.write(type, 156, 'latin1');
  header.write(linkName, 157, 100, 'utf8');
  header.write('ustar\x0000', 257, 'latin1');
  octal(major, 329, 8);
  octal(minor, 337, 8);
  header.fill(0x20, 148, 156);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  return Buffer.concat([header, padded(body)]);
}

/** A pax extended header with one record. */
export function paxHeader(key: string, value: string): Buffer {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
  return tarMember({ name: 'pax', type: 'x', content: `${length}${rest}` });
}

/** A whole archive: pieces as they are, then its end. */
export function tarArchive(...pieces: readonly (Buffer | WrittenMember)[]): Buffer {
  const parts = pieces.map((piece) => (Buffer.isBuffer(piece) ? piece : tarMember(piece)));
  return Buffer.concat([...parts, Buffer.alloc(2 * BLOCK_BYTES)]);
}
