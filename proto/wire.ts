/*
 * Messages from parts that are encoded already (the encoding of a message is the concatenation of its fields, in any
 * order): what many messages share is encoded once.
 */

/** A field whose value is a message, a string or bytes. */
export interface EncodedField {
  /** See `fieldTag`. */
  tag: Uint8Array;
  bytes: Uint8Array;
}

/** A part of a message: fields that are encoded with their tags, or one field of which only the value is. */
export type EncodedPart = Uint8Array | EncodedField;

function varintSize(value: number): number {
  let size = 1;
  for (let rest = value; rest > 127; rest = Math.floor(rest / 128)) size++;
  return size;
}

function writeVarint(target: Uint8Array, at: number, value: number): number {
  let rest = value;
  let position = at;
  while (rest > 127) {
    target[position++] = (rest % 128) | 0x80;
    rest = Math.floor(rest / 128);
  }
  target[position++] = rest;
  return position;
}

/** The tag of a length-delimited field. @param number of the field in the schema. */
export function fieldTag(number: number): Uint8Array {
  const tag = number * 8 + 2;
  const bytes = new Uint8Array(varintSize(tag));
  writeVarint(bytes, 0, tag);
  return bytes;
}

function partSize(part: EncodedPart): number {
  if (part instanceof Uint8Array) return part.length;
  const { length } = part.bytes;
  return part.tag.length + varintSize(length) + length;
}

/** The message that the parts are. */
export function joinParts(parts: readonly EncodedPart[]): Uint8Array {
  let size = 0;
  for (const part of parts) size += partSize(part);
  const out = Buffer.allocUnsafe(size);
  let position = 0;
  for (const part of parts) {
    let bytes = part as Uint8Array;
    if (!(part instanceof Uint8Array)) {
      out.set(part.tag, position);
      ({ bytes } = part);
      position = writeVarint(out, position + part.tag.length, bytes.length);
    }
    out.set(bytes, position);
    position += bytes.length;
  }
  return out;
}
