import { failedPrecondition, invalidArgument, notFound } from '../../base/index.ts';
import { PortConfig_PublishMode, type PortConfig, type Service, type ServiceSpec } from '../../proto/index.ts';
import { boundPort, sharesAddress } from '../allocator/index.ts';
import { publishAddressesOf } from '../settings/index.ts';
import type { ReadView } from '../store/types.ts';
import { tryResolve } from './lookup.ts';

/** Checks the networks of a spec that the caller owns, and replaces names by ids. */
function resolveNetworks(view: ReadView, spec: ServiceSpec): void {
  for (const attachment of [...(spec.task?.networks ?? []), ...spec.networks]) {
    const network = tryResolve(view, 'network', attachment.target);
    if (network === undefined) throw notFound(`network ${attachment.target} not found`);
    if (network.spec?.ingress === true) {
      const name = network.spec.annotations?.name ?? network.id;
      throw invalidArgument(`Service cannot be explicitly attached to the ingress network "${name}"`);
    }
    if (network.pending_delete) throw failedPrecondition(`network ${network.id} is being removed`);
    attachment.target = network.id;
  }
}

function missing(kind: 'secret' | 'config', names: readonly string[]): void {
  if (names.length === 0) return;
  throw invalidArgument(`${kind}${names.length > 1 ? 's' : ''} not found: ${names.join(', ')}`);
}

function checkReferences(view: ReadView, spec: ServiceSpec): void {
  const container = spec.task?.container;
  const secrets = (container?.secrets ?? []).filter(
    (one) => view.get('secret', one.secret_id)?.spec?.annotations?.name !== one.secret_name,
  );
  missing(
    'secret',
    secrets.map((one) => one.secret_name),
  );
  const configs = (container?.configs ?? []).filter(
    (one) => view.get('config', one.config_id)?.spec?.annotations?.name !== one.config_name,
  );
  missing(
    'config',
    configs.map((one) => one.config_name),
  );
  const credential = container?.privileges?.credential_spec?.config ?? '';
  if (credential === '') return;
  if (!(container?.configs ?? []).some((one) => one.config_id === credential && one.runtime !== undefined)) {
    throw invalidArgument(`CredentialSpec references config ${credential}, but that config isn't in config references`);
  }
}

/** Ports of a spec with the addresses that its labels bind them to. */
function boundPorts(spec: ServiceSpec | null): PortConfig[] {
  const addresses = publishAddressesOf(spec?.annotations?.labels);
  return (spec?.endpoint?.ports ?? []).map((port) => boundPort(addresses, port));
}

/** Ports a service has: those it asks for, and those it was given. */
function portsOf(service: Service): PortConfig[] {
  return [...boundPorts(service.spec), ...(service.endpoint?.ports ?? [])];
}

/**
 * A port published on the ingress network excludes any other use of it on the same addresses of hosts; ports published in host mode
 * exclude each other on one node only, which is the scheduler's concern.
 */
function checkPorts(view: ReadView, spec: ServiceSpec, serviceId: string): void {
  const wanted = new Map<string, PortConfig>();
  for (const port of boundPorts(spec)) {
    if (port.published_port !== 0) wanted.set(`${port.protocol}/${port.published_port}`, port);
  }
  if (wanted.size === 0) return;
  for (const service of view.list('service')) {
    if (service.id === serviceId) continue;
    for (const taken of portsOf(service)) {
      const mine = wanted.get(`${taken.protocol}/${taken.published_port}`);
      if (mine === undefined || !sharesAddress(mine.host_ip, taken.host_ip)) continue;
      const theirsIsIngress = taken.publish_mode === PortConfig_PublishMode.INGRESS;
      if (!theirsIsIngress && mine.publish_mode !== PortConfig_PublishMode.INGRESS) continue;
      throw invalidArgument(
        `port '${taken.published_port}' is already in use by service ` +
          `'${service.spec?.annotations?.name ?? ''}' (${service.id}) as ` +
          (theirsIsIngress ? 'an ingress port' : 'a host-published port'),
      );
    }
  }
}

/**
 * Checks a spec (that the caller owns) against the rest of the cluster; names of networks become ids.
 * @param serviceId the service's own id, whose ports do not count.
 */
export function checkAgainstCluster(view: ReadView, spec: ServiceSpec, serviceId: string): void {
  resolveNetworks(view, spec);
  checkReferences(view, spec);
  checkPorts(view, spec, serviceId);
}
