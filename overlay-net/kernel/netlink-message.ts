/** Builds rtnetlink messages (rtnetlink(7), linux/rtnetlink.h, linux/if_link.h). Numbers are in host order (little endian). */
export class MessageBuilder {
  #bytes: Buffer;
  #length = 0;

  /** @param room bytes that are expected */
  constructor(room = 4096) {
    this.#bytes = Buffer.alloc(room);
  }

  get length(): number {
    return this.#length;
  }

  #reserve(count: number): number {
    const at = this.#length;
    if (at + count > this.#bytes.length) {
      const larger = Buffer.alloc((at + count) * 2);
      this.#bytes.copy(larger);
      this.#bytes = larger;
    }
    this.#length = at + count;
    return at;
  }

  u8(value: number): this {
    const at = this.#reserve(1);
    this.#bytes.writeUInt8(value, at);
    return this;
  }

  u16(value: number): this {
    const at = this.#reserve(2);
    this.#bytes.writeUInt16LE(value, at);
    return this;
  }

  u32(value: number): this {
    const at = this.#reserve(4);
    this.#bytes.writeUInt32LE(value >>> 0, at);
    return this;
  }

  raw(data: Uint8Array): this {
    const at = this.#reserve(data.length);
    this.#bytes.set(data, at);
    return this;
  }

  align(): this {
    const rest = this.#length % 4;
    if (rest !== 0) {
      const at = this.#reserve(4 - rest);
      this.#bytes.fill(0, at, at + 4 - rest);
    }
    return this;
  }

  attribute(type: number, data: Uint8Array): this {
    return this.u16(4 + data.length)
      .u16(type)
      .raw(data)
      .align();
  }

  attributeU8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value));
  }

  attributeU16be(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value >>> 8, value & 255));
  }

  attributeU32(type: number, value: number): this {
    const data = Buffer.alloc(4);
    data.writeUInt32LE(value >>> 0);
    return this.attribute(type, data);
  }

  attributeText(type: number, value: string): this {
    return this.attribute(type, Buffer.from(`${value}\0`));
  }

  /** An attribute that holds what `inside` writes. */
  nested(type: number, inside: (self: this) => void): this {
    const at = this.#length;
    this.u16(0).u16(type);
    inside(this);
    this.#bytes.writeUInt16LE(this.#length - at, at);
    return this.align();
  }

  /** A whole message; its length is filled in. */
  message(type: number, flags: number, sequence: number, inside: (self: this) => void): this {
    const at = this.#length;
    this.u32(0).u16(type).u16(flags).u32(sequence).u32(0);
    inside(this);
    this.align();
    this.#bytes.writeUInt32LE(this.#length - at, at);
    return this;
  }

  take(): Buffer {
    const out = Buffer.from(this.#bytes.subarray(0, this.#length));
    this.#length = 0;
    return out;
  }
}

/** The attributes in `data`, by type (nesting flags removed). */
export function parseAttributes(data: Buffer): Map<number, Buffer> {
  const found = new Map<number, Buffer>();
  for (let at = 0; at + 4 <= data.length;) {
    const length = data.readUInt16LE(at);
    if (length < 4 || at + length > data.length) break;
    found.set(data.readUInt16LE(at + 2) & 0x3fff, data.subarray(at + 4, at + length));
    at += (length + 3) & ~3;
  }
  return found;
}

export function macBytes(mac: string): Uint8Array {
  return Uint8Array.from(mac.split(':').map((part) => parseInt(part, 16)));
}

export function formatMac(data: Uint8Array): string {
  return [...data].map((byte) => byte.toString(16).padStart(2, '0')).join(':');
}
