import type { Task } from '../proto/index.ts';
import type { PlacementStrategy } from './hints.ts';
import { meets, type Kin, type Kinships } from './kin.ts';
import type { Asking, NodeView, Promised } from './node-view.ts';
import { hostPortsOf, portsClash, reservationOf, type Reservation } from './resources.ts';

/** A condition of an affinity with the kins that meet it. */
export interface Near {
  /** As the user wrote it. */
  text: string;
  kins: readonly Kin[];
  /** Nobody meets it yet but the group itself: its first task may go anywhere. */
  isOpen: boolean;
}

/** What a group of alike tasks asks of its nodes, worked out once. */
export interface Demand extends Asking {
  readonly task: Task;
  readonly kin: Kin;
  readonly wanted: Reservation;
  readonly ports: readonly string[];
  /** Most tasks of the service on one node; 0: any number. */
  readonly most: number;
  readonly near: readonly Near[];
  /** Kins that must not be on the same node. */
  readonly far: readonly Kin[];
  readonly strategy: PlacementStrategy;
  /** Descriptors of the spread preferences, the outermost first. */
  readonly preferences: readonly string[];
}

const NONE: readonly never[] = [];

/** Names a group: the service and the version of its spec; a task without them is like no other. */
export function groupKeyOf(task: Task): string {
  const version = task.spec_version?.index;
  return task.service_id === '' || version === undefined ? `task ${task.id}` : `${task.service_id}/${version}`;
}

function nearOf(kin: Kin, kinships: Kinships): readonly Near[] {
  if (kin.hints.affinity.length === 0) return NONE;
  return kin.hints.affinity.map((condition) => {
    const kins = kinships.meeting(condition).filter((one) => one.active.size > 0);
    const text = `${condition.key} ${condition.operator} ${condition.value}`;
    return { text, kins, isOpen: kins.length === 0 && meets(kin, condition) };
  });
}

/** Those that the kin excludes, and those that exclude it. */
function farOf(kin: Kin, kinships: Kinships): readonly Kin[] {
  const excluding = kinships.excluding(kin);
  if (kin.hints.antiAffinity.length === 0) return excluding;
  const far = new Set(excluding);
  for (const condition of kin.hints.antiAffinity) {
    for (const one of kinships.meeting(condition)) far.add(one);
    if (meets(kin, condition)) far.add(kin);
  }
  return [...far];
}

/** @param initial the cluster's strategy, for services that choose none. */
export function demandOf(task: Task, kinships: Kinships, initial: PlacementStrategy): Demand {
  const kin = kinships.of(task);
  const placement = task.spec?.placement;
  return {
    task,
    kin,
    groupKey: groupKeyOf(task),
    priority: kin.hints.priority,
    wanted: reservationOf(task),
    ports: hostPortsOf(task),
    most: placement?.max_replicas ?? 0,
    near: nearOf(kin, kinships),
    far: farOf(kin, kinships),
    strategy: kin.hints.strategy ?? initial,
    preferences: (placement?.preferences ?? NONE)
      .map((preference) => preference.spread?.spread_descriptor ?? '')
      .filter((descriptor) => descriptor !== ''),
  };
}

function fitsBeside(wanted: Reservation, view: NodeView, promised: readonly Promised[]): boolean {
  const { free } = view;
  const sum = (what: (one: Promised) => number): number => promised.reduce((total, one) => total + what(one), 0);
  if (wanted.nanoCpus > 0 && wanted.nanoCpus > free.nanoCpus - sum((one) => one.nanoCpus)) return false;
  if (wanted.memoryBytes > 0 && wanted.memoryBytes > free.memoryBytes - sum((one) => one.memoryBytes)) return false;
  for (const [kind, units] of wanted.generic) {
    if (units > view.units(kind) - sum((one) => one.generic.get(kind) ?? 0)) return false;
  }
  return true;
}

/** Whether the node has the resources, with what is promised to others left aside. */
export function hasResources(view: NodeView, demand: Demand): boolean {
  return fitsBeside(demand.wanted, view, view.promisesTo(demand));
}

/** Whether one of these ports is in the way of another. */
export function isTaken(port: string, by: readonly string[]): boolean {
  return by.some((other) => portsClash(other, port));
}

/** The wanted host ports that are taken or promised. */
export function takenPorts(view: NodeView, demand: Demand): string[] {
  if (demand.ports.length === 0) return [];
  const promised = view.promisesTo(demand);
  return demand.ports.filter((port) => view.hasHostPort(port) || promised.some((one) => isTaken(port, one.ports)));
}

/** Affinity conditions that the node does not meet. */
export function unmetNear(view: NodeView, demand: Demand): Near[] {
  return demand.near.filter(({ kins, isOpen }) => !isOpen && !kins.some((kin) => kin.active.has(view)));
}

/** Kins on the node that must not be beside the group's tasks. */
export function presentFar(view: NodeView, demand: Demand): Kin[] {
  return demand.far.filter((kin) => kin.active.has(view));
}
