/* Capabilities of files as their attribute keeps them (linux/capability.h: struct vfs_ns_cap_data). */

const VERSION_MASK = 0xff000000;
const VERSION_2 = 0x02000000;
const VERSION_3 = 0x03000000;
const BYTES_2 = 20;
const BYTES_3 = 24;

const versionOf = (value: Buffer): number => (value.length < 4 ? 0 : (value.readUInt32LE(0) & VERSION_MASK) >>> 0);

function withVersion(value: Buffer, version: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  value.copy(bytes, 0, 0, BYTES_2);
  bytes.writeUInt32LE((version | (value.readUInt32LE(0) & ~VERSION_MASK)) >>> 0, 0);
  return bytes;
}

/** The attribute as a container sees it whose root user is `rootUid` of the host. */
export function capabilityInside(value: Buffer, rootUid: number): Buffer {
  if (versionOf(value) !== VERSION_3 || value.length !== BYTES_3) return value;
  return value.readUInt32LE(BYTES_2) === rootUid ? withVersion(value, VERSION_2, BYTES_2) : value;
}

/** The attribute on the host: it holds only where root is `rootUid`. */
export function capabilityOnHost(value: Buffer, rootUid: number): Buffer {
  if (versionOf(value) !== VERSION_2 || value.length !== BYTES_2) return value;
  const bytes = withVersion(value, VERSION_3, BYTES_3);
  bytes.writeUInt32LE(rootUid, BYTES_2);
  return bytes;
}
