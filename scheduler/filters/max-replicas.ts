import type { FilterFactory } from './filter.ts';

/** The node runs fewer tasks of the service than `placement.max_replicas`. */
export const maxReplicasFilter: FilterFactory = ({ most, task }) => {
  if (most === 0) return undefined;
  return {
    name: 'max-replicas',
    check: (node) => node.activeTasks(task.service_id) < most,
    explain: () => 'max replicas per node limit exceed',
    measure: (view) => view.activeTasks(task.service_id) - most,
    lack: () => ({
      lacks: `runs ${most === 1 ? 'a task' : `${most} tasks`} of the service, as many as one node may`,
      fix: 'add a node, or raise --replicas-max-per-node',
    }),
  };
};
