import type { CertificateRole } from '../../identity/index.ts';
import type { RequestOf, ResponseOf } from '../../proto/index.ts';
import type * as calls from '../dispatcher/calls.ts';

/** Who calls, after authentication; the same for calls of this manager's own API and for forwarded ones. */
export interface Caller {
  /** Node that makes the call; empty when it showed no certificate (public methods only). */
  readonly nodeId: string;
  readonly role: CertificateRole | undefined;
  /** Where the call comes from, `host:port`. */
  readonly address: string;
}

/** As the dispatcher's handlers see calls, and who makes them. The signal also aborts when this manager ceases to lead. */
export interface CallContext extends Caller, calls.CallContext {}

export interface UnaryCall<Request> extends CallContext, calls.UnaryCall<Request> {}
export interface StreamCall<Request, Message> extends UnaryCall<Request>, calls.StreamCall<Request, Message> {}
export interface ClientStreamCall<Message> extends CallContext, calls.ClientStreamCall<Message> {}
export interface DuplexCall<Request, Message> extends CallContext, calls.DuplexCall<Request, Message> {}

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
