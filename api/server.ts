import { existsSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { invalidArgument, notFound, ShoalError, type Logger } from '../base/index.ts';
import { sendError } from './errors.ts';
import { queryBool } from './body.ts';
import type { Ports, SwarmPort } from './ports.ts';
import { takeHijacks, type Hijack } from './hijack.ts';
import { Router, type Route } from './router.ts';
import { archiveRoutes } from './routes/archive.ts';
import { attachRoutes } from './routes/attach.ts';
import { containerControlRoutes } from './routes/container-control.ts';
import { containerListRoutes } from './routes/container-list.ts';
import { containerLogRoutes } from './routes/container-logs.ts';
import { containerRoutes } from './routes/containers.ts';
import { dataRoutes } from './routes/data.ts';
import { diskUsageRoutes } from './routes/disk-usage.ts';
import { doctorRoutes } from './routes/doctor.ts';
import { eventRoutes } from './routes/events.ts';
import { execRoutes } from './routes/exec.ts';
import { commitRoutes } from './routes/commit.ts';
import { imageListRoutes } from './routes/image-list.ts';
import { imageRoutes } from './routes/images.ts';
import { metricsRoutes } from './routes/metrics.ts';
import { networkCheckRoutes } from './routes/network-check.ts';
import { networkRoutes } from './routes/networks.ts';
import { nodeRoutes } from './routes/nodes.ts';
import { planRoutes } from './routes/plan.ts';
import { jobRunRoutes } from './routes/job-runs.ts';
import { rebalanceRoutes } from './routes/rebalance.ts';
import { recoveryRoutes } from './routes/recovery.ts';
import { serviceHistoryRoutes } from './routes/service-history.ts';
import { statsRoutes } from './routes/stats.ts';
import { serviceRoutes } from './routes/services.ts';
import { swarmRoutes } from './routes/swarm.ts';
import { systemRoutes } from './routes/system.ts';
import { taskRoutes } from './routes/tasks.ts';
import { volumeRoutes } from './routes/volumes.ts';
import { whyRoutes } from './routes/why.ts';
import { API_VERSION, checkVersion } from './versions.ts';

const ROUTES: readonly Route[] = [
  ...systemRoutes,
  ...eventRoutes,
  ...diskUsageRoutes,
  ...metricsRoutes,
  ...swarmRoutes,
  ...recoveryRoutes,
  ...jobRunRoutes,
  ...nodeRoutes,
  ...serviceRoutes,
  ...serviceHistoryRoutes,
  ...rebalanceRoutes,
  ...statsRoutes,
  ...taskRoutes,
  ...whyRoutes,
  ...planRoutes,
  ...dataRoutes,
  ...networkRoutes,
  ...networkCheckRoutes,
  ...imageListRoutes,
  ...imageRoutes,
  ...commitRoutes,
  ...archiveRoutes,
  ...containerControlRoutes,
  ...containerListRoutes,
  ...containerRoutes,
  ...attachRoutes,
  ...execRoutes,
  ...containerLogRoutes,
  ...volumeRoutes,
  ...doctorRoutes,
];

export interface ApiServerOptions {
  ports: Ports;
  log: Logger;
  /** What is served; default the whole API. */
  routes?: readonly Route[];
}

/** Serves the Docker Engine API on any number of sockets. */
export class ApiServer {
  readonly #ports: Ports;
  readonly #log: Logger;
  readonly #router: Router;
  readonly #servers: Server[] = [];
  readonly #active = new Set<AbortController>();

  constructor(options: ApiServerOptions) {
    this.#ports = options.ports;
    this.#log = options.log.with({ component: 'api' });
    this.#router = new Router([...(options.routes ?? ROUTES)]);
  }

  /**
   * Listens on `unix:///path` or `tcp://address:port`.
   * @throws ShoalError when the address is malformed or in use.
   */
  async listen(host: string): Promise<void> {
    const server = createServer((request, response) => void this.#serve(request, response));
    takeHijacks(server, (request, response, hijack) => void this.#serve(request, response, hijack));
    // Streams (events, logs, wait) live as long as the client wants.
    server.requestTimeout = 0;
    server.keepAliveTimeout = 60_000;
    const unix = /^unix:\/\/(.+)$/.exec(host);
    const tcp = /^tcp:\/\/(\[[^\]]+\]|[^:/]*):(\d+)\/?$/.exec(host);
    if (unix?.[1] !== undefined) {
      await removeStaleSocket(unix[1]);
      await started(server, host, () => server.listen(unix[1]));
    } else if (tcp?.[2] !== undefined) {
      const address = (tcp[1] ?? '').replace(/^\[|\]$/g, '') || '127.0.0.1';
      await started(server, host, () => server.listen(Number(tcp[2]), address));
    } else {
      throw invalidArgument(`invalid host ${host}: unix:///path or tcp://address:port is expected`);
    }
    this.#servers.push(server);
    this.#log.info('API listens', { host });
  }

  /** Ends open requests and stops listening. */
  async close(): Promise<void> {
    for (const controller of this.#active) controller.abort(new Error('the daemon is stopping'));
    await Promise.all(
      this.#servers.map(
        (server) =>
          new Promise<void>((resolve) => {
            server.close(() => resolve());
            server.closeAllConnections();
          }),
      ),
    );
  }

  /** Shoal's own: `?stale=1` reads what this manager last knew, also without a leader. */
  #portsFor(query: URLSearchParams, response: ServerResponse): Ports {
    if (!queryBool(query, 'stale')) return this.#ports;
    const { swarm } = this.#ports;
    response.setHeader('Shoal-Stale', 'true');
    const stale: SwarmPort['call'] = (method, request) => swarm.callStale(method, request);
    return { ...this.#ports, swarm: Object.create(swarm, { call: { value: stale } }) as SwarmPort };
  }

  async #serve(request: IncomingMessage, response: ServerResponse, hijack?: Hijack): Promise<void> {
    const controller = new AbortController();
    this.#active.add(controller);
    const gone = (): void => {
      this.#active.delete(controller);
      controller.abort(new Error('the client has gone'));
    };
    if (hijack === undefined) response.on('close', gone);
    else {
      hijack.onClose(gone);
      controller.signal.addEventListener('abort', () => hijack.destroy(), { once: true });
    }
    response.setHeader('Api-Version', API_VERSION);
    response.setHeader('Ostype', 'linux');
    response.setHeader('Docker-Experimental', 'false');
    response.setHeader('Server', `Shoal/${this.#ports.system.version} (linux)`);
    try {
      const url = new URL(request.url ?? '/', 'http://shoal');
      const versioned = /^\/v(\d+\.\d+)(\/.*)$/.exec(url.pathname);
      const version = versioned?.[1] ?? API_VERSION;
      checkVersion(version);
      const found = this.#router.find(request.method ?? 'GET', versioned?.[2] ?? url.pathname);
      if (found === undefined) throw notFound('page not found');
      const ports = request.method === 'GET' ? this.#portsFor(url.searchParams, response) : this.#ports;
      const log = this.#log;
      const { handler, params } = found;
      await handler({
        request,
        response,
        query: url.searchParams,
        params,
        version,
        signal: controller.signal,
        ports,
        log,
        ...(hijack === undefined ? {} : { hijack }),
      });
    } catch (error) {
      if (hijack?.taken === true) hijack.destroy();
      else if (controller.signal.aborted) response.destroy();
      else sendError(response, error, this.#log.with({ method: request.method, path: request.url }));
    }
  }
}

function started(server: Server, host: string, listen: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const text = error.code === 'EADDRINUSE' ? 'address already in use' : error.message;
      reject(new ShoalError('Unavailable', `cannot listen on ${host}: ${text}`));
    });
    server.once('listening', () => resolve());
    listen();
  });
}

/** Removes a socket file that nobody listens on. @throws ShoalError Unavailable when somebody does. */
async function removeStaleSocket(path: string): Promise<void> {
  if (!existsSync(path)) return;
  const alive = await new Promise<boolean>((resolve) => {
    const socket = connect(path, () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => resolve(false));
  });
  if (alive) throw new ShoalError('Unavailable', `cannot listen on unix://${path}: another daemon uses it`);
  rmSync(path, { force: true });
}
