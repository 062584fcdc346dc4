import type { ServerDuplexStream } from '@grpc/grpc-js';
import type { CallContext, DuplexCall } from './calls.ts';

/** The two directions of a call, without whose it is. */
export type Streams<Request, Message> = Omit<DuplexCall<Request, Message>, keyof CallContext>;

/**
 * Serves a stream with messages in both directions: gives `handler` the directions in messages instead of bytes.
 * Nothing is read before the handler asks for it.
 * @throws what the handler throws, or what `decode` throws of a message that cannot be read. In both cases nothing
 *   more is read or written.
 */
export async function duplexOf<Request, Message>(
  call: ServerDuplexStream<Buffer, Buffer>,
  codec: { decode(bytes: Buffer): Request; encode(message: Message): Buffer },
  handler: (streams: Streams<Request, Message>) => Promise<void>,
): Promise<void> {
  let over = false;
  let fail: (error: unknown) => void = () => undefined;
  const unreadable = new Promise<never>((_, reject) => (fail = reject));
  const streams: Streams<Request, Message> = {
    receive: (message, done) => {
      call.on('data', (bytes: Buffer) => {
        if (over) return;
        let request: Request;
        try {
          request = codec.decode(bytes);
        } catch (error) {
          over = true;
          fail(error);
          return;
        }
        message(request);
      });
      call.on('end', () => {
        if (!over) done();
      });
    },
    pause: () => void call.pause(),
    resume: () => void call.resume(),
    send: (message) => over || call.write(codec.encode(message)),
    onDrain: (listener) => void call.on('drain', listener),
  };
  try {
    await Promise.race([handler(streams), unreadable]);
  } finally {
    over = true;
  }
}
