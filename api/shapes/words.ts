import {
  EndpointSpec_ResolutionMode,
  Mount_BindOptions_Propagation,
  Mount_Type,
  NodeRole,
  NodeSpec_Availability,
  NodeSpec_Membership,
  NodeStatus_State,
  PortConfig_PublishMode,
  RaftMemberStatus_Reachability,
  RestartPolicy_RestartCondition,
  UpdateConfig_FailureAction,
  UpdateConfig_UpdateOrder,
  UpdateStatus_UpdateState,
} from '../../proto/index.ts';

/** Words of the Docker API for the enumerations of the wire. */
export const AVAILABILITY = {
  active: NodeSpec_Availability.ACTIVE,
  pause: NodeSpec_Availability.PAUSE,
  drain: NodeSpec_Availability.DRAIN,
} as const;

export const ROLE = { worker: NodeRole.WORKER, manager: NodeRole.MANAGER } as const;

export const MEMBERSHIP = { accepted: NodeSpec_Membership.ACCEPTED, pending: NodeSpec_Membership.PENDING } as const;

export const NODE_STATE = {
  unknown: NodeStatus_State.UNKNOWN,
  down: NodeStatus_State.DOWN,
  ready: NodeStatus_State.READY,
  disconnected: NodeStatus_State.DISCONNECTED,
} as const;

export const REACHABILITY = {
  unknown: RaftMemberStatus_Reachability.UNKNOWN,
  unreachable: RaftMemberStatus_Reachability.UNREACHABLE,
  reachable: RaftMemberStatus_Reachability.REACHABLE,
} as const;

export const RESTART_CONDITION = {
  none: RestartPolicy_RestartCondition.NONE,
  'on-failure': RestartPolicy_RestartCondition.ON_FAILURE,
  any: RestartPolicy_RestartCondition.ANY,
} as const;

export const FAILURE_ACTION = {
  pause: UpdateConfig_FailureAction.PAUSE,
  continue: UpdateConfig_FailureAction.CONTINUE,
  rollback: UpdateConfig_FailureAction.ROLLBACK,
} as const;

export const UPDATE_ORDER = {
  'stop-first': UpdateConfig_UpdateOrder.STOP_FIRST,
  'start-first': UpdateConfig_UpdateOrder.START_FIRST,
} as const;

export const UPDATE_STATE = {
  '': UpdateStatus_UpdateState.UNKNOWN,
  updating: UpdateStatus_UpdateState.UPDATING,
  paused: UpdateStatus_UpdateState.PAUSED,
  completed: UpdateStatus_UpdateState.COMPLETED,
  rollback_started: UpdateStatus_UpdateState.ROLLBACK_STARTED,
  rollback_paused: UpdateStatus_UpdateState.ROLLBACK_PAUSED,
  rollback_completed: UpdateStatus_UpdateState.ROLLBACK_COMPLETED,
} as const;

export const ENDPOINT_MODE = {
  vip: EndpointSpec_ResolutionMode.VIP,
  dnsrr: EndpointSpec_ResolutionMode.DNSRR,
} as const;

export const PUBLISH_MODE = {
  ingress: PortConfig_PublishMode.INGRESS,
  host: PortConfig_PublishMode.HOST,
} as const;

export const MOUNT_TYPE = {
  bind: Mount_Type.BIND,
  volume: Mount_Type.VOLUME,
  tmpfs: Mount_Type.TMPFS,
  npipe: Mount_Type.NPIPE,
  cluster: Mount_Type.CLUSTER,
} as const;

export const PROPAGATION = {
  rprivate: Mount_BindOptions_Propagation.RPRIVATE,
  private: Mount_BindOptions_Propagation.PRIVATE,
  rshared: Mount_BindOptions_Propagation.RSHARED,
  shared: Mount_BindOptions_Propagation.SHARED,
  rslave: Mount_BindOptions_Propagation.RSLAVE,
  slave: Mount_BindOptions_Propagation.SLAVE,
} as const;
