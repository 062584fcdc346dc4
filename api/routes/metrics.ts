import type { Route } from '../router.ts';
import { METRICS_CONTENT_TYPE, metricsText } from '../shapes/metrics.ts';

/** What `--metrics-addr` serves alone, under the path that dockerd has; here it is in the API too. */
export const metricsRoutes: Route[] = [
  {
    method: 'GET',
    path: '/metrics',
    handler: async ({ response, ports }) => {
      response.writeHead(200, { 'Content-Type': METRICS_CONTENT_TYPE });
      response.end(metricsText(ports.system.metrics()));
    },
  },
];
