import { Mount_Type, type Node, type Task } from '../../proto/index.ts';
import { nodes, type FilterFactory } from './filter.ts';

export interface Plugin {
  type: 'Volume' | 'Network' | 'Log';
  name: string;
}

/** Drivers that a node must have for a task. */
export function pluginsOf(task: Task): Plugin[] {
  const wanted: Plugin[] = [];
  for (const mount of task.spec?.container?.mounts ?? []) {
    const name = mount.volume_options?.driver_config?.name ?? '';
    if (mount.type === Mount_Type.VOLUME && name !== '' && name !== 'local') wanted.push({ type: 'Volume', name });
  }
  for (const attachment of task.networks) {
    const name = attachment.network?.driver_state?.name ?? '';
    if (name !== '') wanted.push({ type: 'Network', name });
  }
  const log = task.log_driver?.name || task.spec?.log_driver?.name || '';
  if (log !== '' && log !== 'none') wanted.push({ type: 'Log', name: log });
  return wanted;
}

/** Nodes that list no plugin of a type are taken to have all of it: not every agent lists what it has. */
function has(node: Node, { type, name }: Plugin): boolean {
  const ofType = (node.description?.engine?.plugins ?? []).filter((plugin) => plugin.type === type);
  return ofType.length === 0 || ofType.some((plugin) => plugin.name === name || plugin.name === `${name}:latest`);
}

/** The node has the volume, network and log drivers that the task names. */
export const pluginFilter: FilterFactory = ({ task }) => {
  const wanted = pluginsOf(task);
  if (wanted.length === 0) return undefined;
  return {
    name: 'plugin',
    check: ({ node }) => wanted.every((plugin) => has(node, plugin)),
    explain: (count) => `missing plugin on ${nodes(count)}`,
    measure: ({ node }) => wanted.filter((plugin) => !has(node, plugin)).length,
    lack: ({ node }) => {
      const missing = wanted.filter((plugin) => !has(node, plugin));
      const names = missing.map(({ type, name }) => `${type.toLowerCase()} driver ${name}`).join(', ');
      return {
        lacks: `does not have the ${names}`,
        fix: 'install the plugin there, or choose another driver',
      };
    },
  };
};
