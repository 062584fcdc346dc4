/** How this host mounts control groups. `hybrid` is v1 controllers with an empty v2 tree beside them. */
export interface CgroupLayout {
  version: 'v1' | 'hybrid' | 'v2';
  /** Mount point of each v1 controller; named hierarchies as `name=systemd`. */
  controllers: ReadonlyMap<string, string>;
  /** Mount point of the unified tree, if any. */
  unified: string | undefined;
}
