import type { IncomingMessage, ServerResponse } from 'node:http';
import { invalidArgument, type Logger } from '../base/index.ts';
import type { AttachedFacts, Ports } from './ports.ts';

/** One request as a route sees it. */
export interface RequestContext {
  request: IncomingMessage;
  response: ServerResponse;
  query: URLSearchParams;
  /** Captured path parts, decoded. */
  params: Readonly<Record<string, string>>;
  /** Version asked for in the path, or the newest. */
  version: string;
  /** Aborts when the client goes away. */
  signal: AbortSignal;
  ports: Ports;
  log: Logger;
  /** Set for requests that may take the connection over for a stream of their own. */
  hijack?: Takeover;
}

/** A connection that may be taken over. Until it is, the answer is plain HTTP. */
export interface Takeover {
  /** The request's body; what the client sent after it stays for the stream. @throws ShoalError InvalidArgument */
  body(): Promise<Buffer>;
  /** Carries a process' streams until its output has ended or the client has gone. */
  carry(attached: AttachedFacts, contentType: string): Promise<void>;
  /**
   * The same as the messages of a WebSocket, all output in one stream. @param attach once the request is one for it
   * @param binary else messages of output are called text @throws ShoalError InvalidArgument, PermissionDenied
   */
  carryWebSocket(attach: () => Promise<AttachedFacts>, binary: boolean): Promise<void>;
}

export type Handler = (context: RequestContext) => Promise<void>;

/** A route: `{name}` captures one segment, `{name*}` captures several (image names contain slashes). */
export interface Route {
  method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'DELETE';
  path: string;
  handler: Handler;
}

interface Compiled extends Route {
  pattern: RegExp;
  names: string[];
}

function compile(route: Route): Compiled {
  const names: string[] = [];
  const source = route.path.replace(/\{(\w+)(\*?)\}/g, (_all, name: string, greedy: string) => {
    names.push(name);
    return greedy === '*' ? '(.+)' : '([^/]+)';
  });
  return { ...route, pattern: new RegExp(`^${source}$`), names };
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    throw invalidArgument(`invalid URL escape in "${part}"`);
  }
}

/** The route table; the first route that fits wins, so routes with fixed words stand before those that capture. */
export class Router {
  readonly #routes: Compiled[];

  constructor(routes: readonly Route[]) {
    this.#routes = routes.map(compile);
  }

  /** @throws ShoalError InvalidArgument for a path part that cannot be decoded. */
  find(method: string, path: string): { handler: Handler; params: Record<string, string> } | undefined {
    for (const route of this.#routes) {
      if (route.method !== method) continue;
      const match = route.pattern.exec(path);
      if (match === null) continue;
      const params = Object.fromEntries(route.names.map((name, i) => [name, decoded(match[i + 1] ?? '')]));
      return { handler: route.handler, params };
    }
    return undefined;
  }
}
