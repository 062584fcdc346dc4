/**
 * The shape in which the gRPC server hands calls to the handlers of this room, so that they can be tested without gRPC.
 * The adapter has already authenticated the peer: `nodeId` is the name in its certificate (or, for a call that another
 * manager forwarded, the name that manager vouches for).
 */
export interface CallContext {
  /** Node that makes the call. */
  readonly nodeId: string;
  /** Where the call comes from: `host`, `host:port` or `[host]:port`. */
  readonly address: string;
  /** Aborts when the peer cancelled the call or its connection broke. */
  readonly signal: AbortSignal;
}

/** One request, one response; the handler's promise is the response. A ShoalError becomes the gRPC status. */
export interface UnaryCall<Request> extends CallContext {
  readonly request: Request;
}

/** One request, many responses. The stream ends when the handler's promise settles; a rejection becomes its status. */
export interface StreamCall<Request, Message> extends UnaryCall<Request> {
  /**
   * Writes one message; resolves when the transport takes another (back-pressure). Rejects, or may simply never
   * resolve, once `signal` has aborted. `encoded`: the message's bytes, when the caller has them already.
   */
  send(message: Message, encoded?: Uint8Array): Promise<void>;
}

/** Many requests, one response. */
export interface ClientStreamCall<Message> extends CallContext {
  /** The peer's messages. Reading slowly must slow the peer down. */
  readonly messages: AsyncIterable<Message>;
}

/** Many requests, many responses, by callbacks: a message costs no promise. The handler's promise ends the stream. */
export interface DuplexCall<Request, Message> extends CallContext {
  /** Who takes the peer's messages, in order; `done` is called when the peer sends no more. To be called once. */
  receive(message: (request: Request) => void, done: () => void): void;
  /** Stops reading: the peer is slowed down. `resume` goes on. */
  pause(): void;
  resume(): void;
  /** Writes one message. @returns whether the transport takes more at once; `onDrain` tells when it does again. */
  send(message: Message): boolean;
  onDrain(listener: () => void): void;
}

/** The host part of a peer's address, without port and brackets. */
export function hostOf(address: string): string {
  const bracketed = /^\[([^\]]+)\](?::\d+)?$/.exec(address);
  if (bracketed !== null) return bracketed[1] as string;
  const first = address.indexOf(':');
  // More than one colon without brackets is a bare IPv6 address.
  return first !== -1 && first === address.lastIndexOf(':') ? address.slice(0, first) : address;
}

/** Waits for `promise`, but no longer than until `signal` aborts (then rejects with its reason). */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason as Error);
    if (signal.aborted) {
      promise.catch(() => undefined);
      onAbort();
      return;
    }
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Passes over the rejection that an abort has caused; the caller looks at the signal itself. */
export function ignoreAbortOf(ended: AbortSignal): (error: unknown) => void {
  return (error) => {
    if (!ended.aborted) throw error;
  };
}
