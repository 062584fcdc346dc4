/** What the main thread and the resolvers' thread tell each other. */
import type { LogLevel } from '../../base/index.ts';
import type { Upstream } from './forward.ts';
import type { Member } from './zone.ts';

/** What one sandbox's resolver needs beside its sockets. */
export interface SandboxView {
  /** Zones in the order names are looked for. */
  zones: readonly string[];
  upstream: Upstream;
  /** The user set `ndots`: names without dots are not forwarded, so that the client goes on with its search list. */
  keepsDotless: boolean;
}

export type ToThread =
  /** A piece of an overlay's names (see `zoneText`); with the last one the zone is replaced. */
  | { kind: 'zone'; id: string; network: string; generation: number; text: string; last: boolean }
  /** A piece of what changed in an overlay's names (see `changeText`). */
  | { kind: 'zone-change'; id: string; text: string }
  | { kind: 'zone-gone'; id: string }
  /** A container of this host on the zone `id`. */
  | { kind: 'member'; id: string; key: string; member: Member }
  | { kind: 'member-gone'; id: string; key: string }
  /** `port` is the one to be tried first; 0: any. */
  | { kind: 'open'; id: string; namespace: string; port: number; view: SandboxView }
  | { kind: 'view'; id: string; view: SandboxView }
  | { kind: 'close'; id: string };

export type FromThread =
  | { kind: 'opened'; id: string; port: number }
  | { kind: 'failed'; id: string; error: string }
  | { kind: 'log'; level: LogLevel; message: string; fields: Record<string, string> };
