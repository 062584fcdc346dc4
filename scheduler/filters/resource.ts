import { hasResources, type Demand } from '../demand.ts';
import type { NodeView } from '../node-view.ts';
import { totalOf, type FreeResources, type Reservation } from '../resources.ts';
import { NEVER, nodes, type FilterFactory, type Lack } from './filter.ts';

const MIB = 2 ** 20;

/** CPUs, rounded up to hundredths. */
function cpus(nanoCpus: number): string {
  const count = Math.ceil(nanoCpus / 1e7) / 100;
  return count === 1 ? '1 CPU' : `${count} CPUs`;
}

/** Bytes as whole MiB, rounded up, or GiB where that is exact. */
function memory(bytes: number): string {
  const mib = Math.ceil(bytes / MIB);
  return mib % 1024 === 0 ? `${mib / 1024}GiB` : `${mib}MiB`;
}

interface Missing {
  /** What is missing, in words. */
  text: string;
  /** Share of the wish that is missing, 0 to 1. */
  share: number;
  flag: string;
}

function missing(wanted: Reservation, free: FreeResources): Missing[] {
  const result: Missing[] = [];
  const nanoCpus = wanted.nanoCpus - free.nanoCpus;
  if (wanted.nanoCpus > 0 && nanoCpus > 0) {
    result.push({ text: cpus(nanoCpus), share: nanoCpus / wanted.nanoCpus, flag: '--reserve-cpu' });
  }
  const bytes = wanted.memoryBytes - free.memoryBytes;
  if (wanted.memoryBytes > 0 && bytes > 0) {
    result.push({ text: `${memory(bytes)} of memory`, share: bytes / wanted.memoryBytes, flag: '--reserve-memory' });
  }
  for (const [kind, units] of wanted.generic) {
    const lacking = units - free.units(kind);
    if (lacking > 0) result.push({ text: `${lacking} ${kind}`, share: lacking / units, flag: '--generic-resource' });
  }
  return result;
}

function missingEvenEmpty(demand: Demand, view: NodeView): Missing[] {
  return missing(demand.wanted, totalOf(view.node.description?.resources));
}

function lackOf(demand: Demand, view: NodeView): Lack {
  const never = missingEvenEmpty(demand, view);
  if (never.length > 0) {
    const more = never.map((one) => one.text).join(' and ');
    const fix = `add a larger node, or lower ${never.map((one) => one.flag).join(' and ')}`;
    return { lacks: `is too small, even when empty, by ${more}`, fix };
  }
  const lacking = missing(demand.wanted, view.free);
  if (lacking.length === 0) {
    return { lacks: 'keeps its room for a task of higher priority', fix: 'add a node, or raise the priority' };
  }
  const texts = lacking.map((one) => one.text).join(' and ');
  const flags = lacking.map((one) => one.flag).join(' or ');
  return { lacks: `lacks ${texts}`, fix: `free ${texts} on ${view.name}, add a node, or lower ${flags}` };
}

function measureOf(demand: Demand, view: NodeView): number {
  const never = Math.max(0, ...missingEvenEmpty(demand, view).map((one) => one.share));
  if (never > 0) return NEVER + never;
  return Math.max(0, ...missing(demand.wanted, view.free).map((one) => one.share));
}

/** The node has the CPU, memory and generic resources that the task reserves. */
export const resourceFilter: FilterFactory = (demand) => {
  const { wanted } = demand;
  if (wanted.nanoCpus === 0 && wanted.memoryBytes === 0 && wanted.generic.size === 0) return undefined;
  return {
    name: 'resource',
    check: (view) => hasResources(view, demand),
    explain: (count) => `insufficient resources on ${nodes(count)}`,
    measure: (view) => measureOf(demand, view),
    lack: (view) => lackOf(demand, view),
  };
};
