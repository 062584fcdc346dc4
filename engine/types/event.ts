/** Something that happened on this host, for `docker events`. */
export interface EngineEvent {
  type: 'container' | 'image' | 'volume' | 'network' | 'daemon';
  action: string;
  actorId: string;
  attributes: Readonly<Record<string, string>>;
  timeMs: number;
}
