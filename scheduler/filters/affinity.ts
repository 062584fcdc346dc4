import { presentFar, unmetNear } from '../demand.ts';
import type { Kin } from '../kin.ts';
import { nodes, type FilterFactory } from './filter.ts';

function serviceName({ name, serviceId }: Kin): string {
  return name === '' ? serviceId : name;
}

/** The node holds a task of a service that each of the group's affinities names. */
export const affinityFilter: FilterFactory = (demand) => {
  if (demand.near.length === 0) return undefined;
  return {
    name: 'affinity',
    check: (view) => unmetNear(view, demand).length === 0,
    explain: (count) => `affinity not satisfied on ${nodes(count)}`,
    measure: (view) => unmetNear(view, demand).length,
    lack: (view) => {
      const texts = unmetNear(view, demand).map((one) => one.text);
      return {
        lacks: `holds no task of a service with ${texts.join(', nor with ')}`,
        fix: `start such a service on ${view.name}, or take the affinity away`,
      };
    },
  };
};

/** The node holds no task of a service that the group excludes, nor of one that excludes the group. */
export const antiAffinityFilter: FilterFactory = (demand) => {
  if (demand.far.length === 0) return undefined;
  return {
    name: 'anti-affinity',
    check: (view) => presentFar(view, demand).length === 0,
    explain: (count) => `anti-affinity not satisfied on ${nodes(count)}`,
    measure: (view) => presentFar(view, demand).length,
    lack: (view) => {
      const names = [...new Set(presentFar(view, demand).map(serviceName))].join(', ');
      return {
        lacks: `holds a task of ${names}, which must not be beside it`,
        fix: 'add a node, or take the anti-affinity away',
      };
    },
  };
};
