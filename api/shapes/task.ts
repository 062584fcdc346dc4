import { taskStateName, timestampToIso, type Task } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import { listOrNothing, textOrNothing } from './fields.ts';
import { attachedNetworkToJson } from './network.ts';
import { genericToJson, metaToJson, portToJson, taskSpecToJson } from './service.ts';

function statusToJson(task: Task): JsonObject {
  const { status } = task;
  const container = status?.container;
  return {
    Timestamp: timestampToIso(status?.timestamp),
    State: taskStateName(status?.state ?? 0),
    Message: textOrNothing(status?.message ?? ''),
    Err: textOrNothing(status?.err ?? ''),
    ContainerStatus:
      container === undefined
        ? undefined
        : { ContainerID: container.container_id, PID: container.pid, ExitCode: container.exit_code },
    PortStatus: { Ports: listOrNothing((status?.port_status?.ports ?? []).map(portToJson)) },
  };
}

/** Docker's JSON of a task. */
export function taskToJson(task: Task): JsonObject {
  return {
    ID: task.id,
    ...metaToJson(task.meta),
    Name: textOrNothing(task.annotations?.name ?? ''),
    Labels: {},
    Spec: task.spec === null ? {} : taskSpecToJson(task.spec),
    ServiceID: textOrNothing(task.service_id),
    Slot: textOrNothing(task.slot),
    NodeID: textOrNothing(task.node_id),
    Status: statusToJson(task),
    DesiredState: taskStateName(task.desired_state),
    NetworksAttachments: listOrNothing(
      task.networks.map((attachment) => ({
        Network: attachment.network === null ? {} : attachedNetworkToJson(attachment.network),
        Addresses: listOrNothing(attachment.addresses),
      })),
    ),
    GenericResources: genericToJson(task.assigned_generic_resources),
    JobIteration: task.job_iteration === null ? undefined : { Index: textOrNothing(task.job_iteration.index) },
    Volumes: null,
  };
}
