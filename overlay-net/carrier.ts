import type { Leg } from './store.ts';

/** A leg as far as the choice of the default route goes. */
export interface CarrierLeg extends Pick<Leg, 'kind' | 'gateway' | 'gateway6'> {
  networkName: string;
  gwPriority: number;
}

/**
 * The leg that carries the default route of one family: ingress first; then, as Docker chooses, the highest priority, a
 * network with both families before one with a single, and the first by name. Undefined when none leads outward; the
 * gateway network's leg counts only when there is no other.
 */
export function chooseCarrier<L extends CarrierLeg>(legs: readonly L[], family: 4 | 6): L | undefined {
  const via = (leg: L): string => (family === 4 ? leg.gateway : leg.gateway6) ?? '';
  const rank = (leg: L): number[] => [
    leg.kind === 'gateway' ? 1 : 0,
    leg.kind === 'ingress' ? 0 : 1,
    -leg.gwPriority,
    leg.gateway && leg.gateway6 ? 0 : 1,
  ];
  const before = (a: L, b: L): number => {
    const [x, y] = [rank(a), rank(b)];
    const differs = x.findIndex((value, i) => value !== y[i]);
    if (differs >= 0) return (x[differs] ?? 0) - (y[differs] ?? 0);
    return a.networkName < b.networkName ? -1 : a.networkName > b.networkName ? 1 : 0;
  };
  return legs.filter((leg) => via(leg) !== '').sort(before)[0];
}
