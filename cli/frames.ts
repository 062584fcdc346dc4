/** Frames of Docker's multiplexed streams: 1 byte stream, 3 zero bytes, 4 bytes length, payload. */

const HEADER_BYTES = 8;
/** A frame longer than this is no frame, bytes. */
const FRAME_MAX_BYTES = 16 * 1024 * 1024;

export interface Frame {
  stream: 'stdout' | 'stderr';
  data: Buffer;
}

/** Frames of a body. @throws Error for the daemon's own fault (stream 3) and for what is no frame */
export async function* frames(body: AsyncIterable<Uint8Array>): AsyncGenerator<Frame> {
  let rest: Buffer = Buffer.alloc(0);
  for await (const chunk of body) {
    rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk]);
    while (rest.length >= HEADER_BYTES) {
      const size = rest.readUInt32BE(4);
      const kind = rest[0] ?? 0;
      if (kind > 3 || size > FRAME_MAX_BYTES) throw new Error(`Unrecognized input header: ${kind}`);
      if (rest.length < HEADER_BYTES + size) break;
      const data = rest.subarray(HEADER_BYTES, HEADER_BYTES + size);
      rest = rest.subarray(HEADER_BYTES + size);
      if (kind === 3) throw new Error(`error from daemon in stream: ${data.toString('utf8')}`);
      yield { stream: kind === 2 ? 'stderr' : 'stdout', data };
    }
  }
}
