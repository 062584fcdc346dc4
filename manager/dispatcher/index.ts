import { ShoalError, unavailable } from '../../base/index.ts';
import type {
  AgentReport,
  AssignmentsMessage,
  AssignmentsRequest,
  HeartbeatRequest,
  HeartbeatResponse,
  ReportAck,
  SessionMessage,
  SessionRequest,
  UpdateTaskStatusRequest,
  UpdateTaskStatusResponse,
  UpdateVolumeStatusRequest,
  UpdateVolumeStatusResponse,
} from '../../proto/index.ts';
import type { LeaderDuty } from '../store/types.ts';
import type { DuplexCall, StreamCall, UnaryCall } from './calls.ts';
import { DispatcherTerm, type DispatcherOptions } from './term.ts';
import type { UsageSource } from './usage.ts';

export type { CallContext, ClientStreamCall, DuplexCall, StreamCall, UnaryCall } from './calls.ts';
export { hostOf } from './calls.ts';
export { RESTART_GRACE_MS } from './settings.ts';
export type { DispatcherOptions, IndexedStore } from './term.ts';
export { NO_USAGE, type UsageReading, type UsageSource } from './usage.ts';

/**
 * The methods of `DispatcherService`, one handler each, by the same names in camel case. All reject with ShoalErrors:
 * Unavailable when this manager does not lead, NotFound "node not registered", InvalidArgument "session invalid",
 * PermissionDenied, Aborted (the session was replaced or has expired).
 *
 * Adapting grpc-js: for a unary method call the handler and answer with its result; for a server stream pass
 * `send: (message) => call.write(message) ? done : once('drain')`, a signal that aborts on the call's `cancelled`
 * event, and end the call when the promise settles. A rejection becomes `{code: error.grpcStatus, details: message}`.
 */
export interface DispatcherHandlers {
  session(call: StreamCall<SessionRequest, SessionMessage>): Promise<void>;
  heartbeat(call: UnaryCall<HeartbeatRequest>): Promise<HeartbeatResponse>;
  updateTaskStatus(call: UnaryCall<UpdateTaskStatusRequest>): Promise<UpdateTaskStatusResponse>;
  updateVolumeStatus(call: UnaryCall<UpdateVolumeStatusRequest>): Promise<UpdateVolumeStatusResponse>;
  assignments(call: StreamCall<AssignmentsRequest, AssignmentsMessage>): Promise<void>;
  /** Shoal's own: heartbeats and task statuses of one session as a stream. */
  reports(call: DuplexCall<AgentReport, ReportAck>): Promise<void>;
}

export interface Dispatcher {
  readonly duty: LeaderDuty;
  readonly handlers: DispatcherHandlers;
  /** Tells an agent (all, without one) anew what may have changed: managers, root certificate, checks to do. */
  refresh(nodeId?: string): void;
  /** What tasks use; knows nothing while this manager does not lead. */
  readonly usage: UsageSource;
}

/** The manager's side of the agents' protocol (swarmkit.md §1.6–1.10). Serves agents while its duty runs. */
export function createDispatcher(options: DispatcherOptions): Dispatcher {
  let serving: DispatcherTerm | undefined;
  const term = (): DispatcherTerm => {
    if (serving === undefined) throw unavailable('this manager is not the leader; connect to another manager');
    return serving;
  };
  return {
    duty: {
      name: 'dispatcher',
      run: async (signal) => {
        const own = new DispatcherTerm(options);
        try {
          await own.run(signal, () => {
            serving = own;
          });
        } finally {
          if (serving === own) serving = undefined;
          own.close();
        }
      },
    },
    handlers: {
      session: async (call) => term().session(call),
      heartbeat: async (call) => term().heartbeat(call),
      updateTaskStatus: async (call) => {
        await term().updateTaskStatus(call);
        return {};
      },
      updateVolumeStatus: async (call) => {
        term().checkSession(call.nodeId, call.request.session_id);
        throw new ShoalError('Unimplemented', 'cluster volumes (CSI) are not supported by this manager');
      },
      assignments: async (call) => term().assignments(call),
      reports: async (call) => term().reports(call),
    },
    refresh: (nodeId) => serving?.refresh(nodeId),
    usage: { of: (task) => serving?.usageOf(task) },
  };
}
