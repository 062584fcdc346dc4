import type { Mutant } from '../../raft/sim/mutate.ts';

/** Guards of the control plane. Without any one of them the simulation must fail. */
export const MUTANTS: Mutant[] = [
  {
    name: 'a successor waits for the old task',
    breaks: 'two containers of one slot run at the same time',
    patches: [
      {
        file: 'manager/orchestrator/restart.ts',
        find: 'if (old.desired_state <= TaskState.COMPLETE || !isStopping(state, old)) continue;',
        put: 'if (at >= 0) continue;',
      },
    ],
  },
  {
    name: 'statuses never go back',
    breaks: 'a report that comes late, or twice, takes a task back',
    patches: [
      {
        file: 'manager/dispatcher/write-batch.ts',
        find: 'if (status.state < before || status.state < TaskState.ASSIGNED',
        put: 'if (before < 0 || status.state < TaskState.ASSIGNED',
      },
    ],
  },
  {
    name: 'the scheduler counts reservations',
    breaks: 'tasks reserve more than their node has',
    patches: [
      {
        file: 'scheduler/columns.ts',
        find: 'const freeMemory = (this.freeMemory[row] as number) - memoryBytes;',
        put: 'const freeMemory = this.freeMemory[row] as number;',
      },
    ],
  },
  {
    name: 'a new leader knows the addresses that were given',
    breaks: 'an address is given twice after a change of leader',
    patches: [
      {
        file: 'manager/allocator/state.ts',
        find: "for (const task of view.list('task')) state.adoptTask(task);",
        put: '',
      },
    ],
  },
  {
    name: 'the reaper spares what may still run',
    breaks: 'a task is deleted while its container runs',
    patches: [
      {
        file: 'manager/orchestrator/reaper.ts',
        find: 'if (task.desired_state >= TaskState.REMOVE) return isGone(task, view);',
        put: 'if (task.desired_state >= TaskState.REMOVE) return true;',
      },
    ],
  },
  {
    name: 'host ports count while a task may use them',
    breaks: 'two tasks have one port of a node',
    patches: [
      {
        file: 'scheduler/node-view.ts',
        find: 'return this.#hostPorts?.has(port) ?? false;',
        put: 'return port.length < 0;',
      },
    ],
  },
  {
    name: 'secrets go with their tasks',
    breaks: 'a node keeps secrets that none of its tasks needs any more',
    patches: [
      {
        file: 'manager/dispatcher/assignment-feed.ts',
        find: 'if (state > TaskState.RUNNING && known !== undefined) out.after.push(...this.#release(known));',
        put: '',
      },
    ],
  },
  {
    name: 'what is replaced is called off',
    breaks: 'two tasks of one slot are wanted when the node of the old one comes back',
    patches: [
      {
        file: 'manager/orchestrator/restart.ts',
        find: "const step: Op[] = [{ op: 'update', task: calledOff(task, TaskState.SHUTDOWN, lossReason(state, task)) }];",
        put: 'const step: Op[] = [];',
      },
      // An empty step would only have the duty try again at once, for ever.
      {
        file: 'manager/orchestrator/restart.ts',
        find: 'steps.push(step);',
        put: 'if (step.length > 0) steps.push(step);',
      },
    ],
  },
  {
    name: 'a silent node is Down',
    breaks: 'tasks of a node that is gone are not replaced',
    patches: [
      {
        file: 'manager/dispatcher/sessions.ts',
        find: 'const write = { state: NodeStatus_State.DOWN, message: HEARTBEAT_FAILURE };',
        put: 'const write = { state: NodeStatus_State.DISCONNECTED, message: HEARTBEAT_FAILURE };',
      },
    ],
  },
  {
    name: 'a new leader awaits the nodes of the one before',
    breaks: 'a node that fell silent under one leader is not Down under the next',
    patches: [
      {
        file: 'manager/dispatcher/term.ts',
        find: 'if (state !== NodeStatus_State.DOWN && node.description !== null) this.#sessions.expect(node.id);',
        put: 'if (state < 0) this.#sessions.expect(node.id);',
      },
    ],
  },
];
