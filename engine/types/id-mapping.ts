/** A run of ids: `count` from `inside` on, as a container sees them, are those from `outside` on of the host. */
export interface IdRange {
  inside: number;
  outside: number;
  count: number;
}

/** What users and groups of a container are on the host (user_namespaces(7)). Ranges do not overlap. */
export interface IdMapping {
  uids: readonly IdRange[];
  gids: readonly IdRange[];
}

/** How the root of a container with other ids is mounted. */
export interface RootIds {
  /** Ids of the host that the container's root user has. */
  uid: number;
  gid: number;
  /** A descriptor of a user namespace with the container's mapping. */
  namespace: number;
}
