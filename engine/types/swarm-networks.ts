/** What a container wants of a network of the swarm. */
export interface PlaceRequest {
  /** Name or id. */
  network: string;
  containerId: string;
  /** Names of the container there, its own first. */
  names: readonly string[];
  /** Addresses (without mask) that the user asks for; empty: any. */
  addresses: readonly string[];
}

/** Networks that are not of this host alone: their addresses are given by the managers of a swarm. */
export interface SwarmNetworks {
  /**
   * Gets a place on a network for a container, and waits until the network stands on this host.
   * @throws ShoalError in Docker's words: NotFound, PermissionDenied (not attachable), Unavailable
   */
  attach(request: PlaceRequest): Promise<{ networkId: string; address: string; address6?: string }>;
  /** The container needs its place on the network (on all, without one) no more. */
  detach(containerId: string, networkId?: string): void;
}
