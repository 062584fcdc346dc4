import type { ShoalError } from '../base/index.ts';
import type {
  AgentReport,
  AssignmentsMessage,
  AssignmentsRequest,
  AttachNetworkRequest,
  HeartbeatRequest,
  HeartbeatResponse,
  NetworkCheckOrder,
  NetworkCheckReport,
  PublishLogsMessage,
  ReportAck,
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
  /**
   * Opens Shoal's own stream of heartbeats and statuses. A manager that has none ends it with Unimplemented. Absent
   * where only the calls above exist.
   */
  reports?(events: ReportEvents): ReportLink;
  publishLogs(signal: AbortSignal): LogStream;
  /** Orders to check networks. Absent, or Unimplemented, where managers give none. */
  listenChecks?(signal: AbortSignal): AsyncIterable<NetworkCheckOrder>;
  reportCheck?(report: NetworkCheckReport, timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** A place on an attachable network for a container of this node; resolves with the attachment's id. */
  attachNetwork?(request: AttachNetworkRequest, timeoutMs: number): Promise<string>;
  detachNetwork?(attachmentId: string, timeoutMs: number): Promise<void>;
  /** Whether the other side has taken the connection; undefined when that cannot be told. */
  isConnected?(): boolean;
  close(): void;
}

/** What comes on a stream of reports, once `reports` has returned. */
export interface ReportEvents {
  answer(ack: ReportAck): void;
  /** The stream is over, whoever ended it. */
  ended(error: ShoalError): void;
}

/** A stream of reports. Its user bounds what is under way: nothing is said of the transport's room. */
export interface ReportLink {
  send(report: AgentReport): void;
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
