import type { NodeView } from '../node-view.ts';
import { FreeResources, reservationOf, type Reservation } from '../resources.ts';
import { nodes, type FilterFactory, type Lack } from './filter.ts';

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

function lackOf(wanted: Reservation, view: NodeView): Lack {
  const lacking = missing(wanted, view.free);
  const texts = lacking.map((one) => one.text).join(' and ');
  const flags = lacking.map((one) => one.flag).join(' or ');
  const measure = Math.max(...lacking.map((one) => one.share));
  const never = missing(wanted, new FreeResources(view.node.description?.resources));
  if (never.length > 0) {
    const more = never.map((one) => one.text).join(' and ');
    const fix = `add a larger node, or lower ${never.map((one) => one.flag).join(' and ')}`;
    return { measure, never: true, lacks: `is too small, even when empty, by ${more}`, fix };
  }
  return { measure, lacks: `lacks ${texts}`, fix: `free ${texts} on ${view.name}, add a node, or lower ${flags}` };
}

/** The node has the CPU, memory and generic resources that the task reserves. */
export const resourceFilter: FilterFactory = (task) => {
  const wanted = reservationOf(task);
  if (wanted.nanoCpus === 0 && wanted.memoryBytes === 0 && wanted.generic.size === 0) return undefined;
  return {
    name: 'resource',
    check: (node) => node.free.has(wanted),
    explain: (count) => `insufficient resources on ${nodes(count)}`,
    lack: (view) => lackOf(wanted, view),
  };
};
