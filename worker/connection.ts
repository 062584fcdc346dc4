import type {
  AssignmentsMessage,
  AssignmentsRequest,
  HeartbeatRequest,
  HeartbeatResponse,
  PublishLogsMessage,
  SessionMessage,
  SessionRequest,
  SubscriptionMessage,
  UpdateTaskStatusRequest,
} from '../proto/index.ts';

/**
 * One connection to a manager, as the agent needs it. All methods reject, and all streams throw, ShoalErrors with the
 * code that the manager gave (Unavailable when it cannot be reached). Streams end when `signal` aborts.
 */
export interface AgentConnection {
  session(request: SessionRequest, signal: AbortSignal): AsyncIterable<SessionMessage>;
  assignments(request: AssignmentsRequest, signal: AbortSignal): AsyncIterable<AssignmentsMessage>;
  listenSubscriptions(signal: AbortSignal): AsyncIterable<SubscriptionMessage>;
  heartbeat(request: HeartbeatRequest, timeoutMs: number, signal: AbortSignal): Promise<HeartbeatResponse>;
  updateTaskStatus(request: UpdateTaskStatusRequest, timeoutMs: number, signal: AbortSignal): Promise<void>;
  publishLogs(signal: AbortSignal): LogStream;
  /** Whether the other side has taken the connection; undefined when that cannot be told. */
  isConnected?(): boolean;
  close(): void;
}

/** A stream of published lines. */
export interface LogStream {
  /** Resolves when the transport takes more. @throws ShoalError when the stream broke. */
  write(message: PublishLogsMessage): Promise<void>;
  /** Ends the stream and waits for the manager's answer. */
  end(): Promise<void>;
}

/** Makes a connection; it may connect lazily. The daemon gives credentials with it, see `grpcConnection`. */
export type ConnectManager = (address: string) => AgentConnection;
