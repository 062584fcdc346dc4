/** Failures after which a node is avoided by a service for a while. */
export const FAILURES_MAX = 5;
/** How long a failure counts, ms. */
export const FAILURE_WINDOW_MS = 5 * 60 * 1000;
/** Services (and their versions) whose failures are remembered. */
const FAILING_SERVICES_MAX = 10_000;

/** Where tasks of each service failed of late. */
export class Failures {
  /** Times (ms) of the latest failures, by service and version, then by node; never more than FAILURES_MAX each. */
  readonly #times = new Map<string, Map<string, number[]>>();

  /** @param key service and spec version. @param atMs time of the failure. */
  add(key: string, nodeId: string, atMs: number): void {
    const byNode = this.#times.get(key) ?? new Map<string, number[]>();
    // Newest last, so that the first is the one to forget.
    this.#times.delete(key);
    this.#times.set(key, byNode);
    const times = [...(byNode.get(nodeId) ?? []), atMs].toSorted((a, b) => a - b).slice(-FAILURES_MAX);
    byNode.set(nodeId, times);
    if (this.#times.size <= FAILING_SERVICES_MAX) return;
    const oldest = this.#times.keys().next();
    if (oldest.done !== true) this.#times.delete(oldest.value);
  }

  forgetNode(nodeId: string): void {
    for (const [key, byNode] of this.#times) {
      if (byNode.delete(nodeId) && byNode.size === 0) this.#times.delete(key);
    }
  }

  /** Nodes where the service failed too often of late. */
  failingNodes(key: string, nowMs: number): string[] {
    const byNode = this.#times.get(key);
    if (byNode === undefined) return [];
    const failing: string[] = [];
    for (const [nodeId, times] of byNode) {
      if (times.filter((at) => nowMs - at < FAILURE_WINDOW_MS).length >= FAILURES_MAX) failing.push(nodeId);
    }
    return failing;
  }
}
