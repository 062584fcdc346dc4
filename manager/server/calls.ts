import type { CertificateRole } from '../../identity/index.ts';
import type { RequestOf, ResponseOf } from '../../proto/index.ts';

/** Who calls, after authentication; the same for calls of this manager's own API and for forwarded ones. */
export interface Caller {
  /** Node that makes the call; empty when it showed no certificate (public methods only). */
  readonly nodeId: string;
  readonly role: CertificateRole | undefined;
  /** Where the call comes from, `host:port`. */
  readonly address: string;
}

export interface CallContext extends Caller {
  /** Aborts when the peer cancelled, its connection broke, or this manager ceased to lead. */
  readonly signal: AbortSignal;
}

export interface UnaryCall<Request> extends CallContext {
  readonly request: Request;
}

export interface StreamCall<Request, Message> extends UnaryCall<Request> {
  /**
   * Writes one message; resolves when the transport takes another, rejects once `signal` has aborted. `encoded`: the
   * message's bytes, when the caller has them already.
   */
  send(message: Message, encoded?: Uint8Array): Promise<void>;
}

export interface ClientStreamCall<Message> extends CallContext {
  readonly messages: AsyncIterable<Message>;
}

/** Many requests, many responses, by callbacks: a message costs no promise. */
export interface DuplexCall<Request, Message> extends CallContext {
  /** Who takes the peer's messages, in order; `done` is called when the peer sends no more. To be called once. */
  receive(message: (request: Request) => void, done: () => void): void;
  /** Stops reading, so that the peer is slowed down. `resume` goes on. */
  pause(): void;
  resume(): void;
  /** Writes one message. @returns whether the transport takes more at once; `onDrain` tells when it does again. */
  send(message: Message): boolean;
  onDrain(listener: () => void): void;
}

export type UnaryHandler<Request, Response> = (call: UnaryCall<Request>) => Promise<Response> | Response;
/** The stream ends when the promise settles; a rejection becomes its status. */
export type StreamHandler<Request, Message> = (call: StreamCall<Request, Message>) => Promise<void>;
export type ClientStreamHandler<Message, Response> = (call: ClientStreamCall<Message>) => Promise<Response>;
/** The stream ends when the promise settles; a rejection becomes its status. */
export type DuplexHandler<Request, Message> = (call: DuplexCall<Request, Message>) => Promise<void>;

/** The handler that a generated method needs. */
export type HandlerOf<Method> = Method extends { requestStream: true; responseStream: true }
  ? DuplexHandler<RequestOf<Method>, ResponseOf<Method>>
  : Method extends { requestStream: true }
    ? ClientStreamHandler<RequestOf<Method>, ResponseOf<Method>>
    : Method extends { responseStream: true }
      ? StreamHandler<RequestOf<Method>, ResponseOf<Method>>
      : UnaryHandler<RequestOf<Method>, ResponseOf<Method>>;

/** Handlers of a service; a method without one answers Unimplemented. */
export type HandlersOf<Service> = { readonly [Name in keyof Service]?: HandlerOf<Service[Name]> };

/** Who may call: anybody, any node of the cluster, managers only. */
export type Access = 'public' | 'node' | 'manager';

export interface ServiceRules<Service> {
  access: Access;
  /** Methods with another access. */
  except?: Partial<Record<keyof Service, Access>>;
  /** Whether only the leader serves it; other managers forward calls to the leader. */
  leaderOnly: boolean;
}
