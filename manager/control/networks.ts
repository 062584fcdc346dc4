import { isIP } from 'node:net';
import { alreadyExists, failedPrecondition, invalidArgument, newId, notFound, ShoalError } from '../../base/index.ts';
import {
  Network,
  PortConfig_PublishMode,
  TaskState,
  type IPAMConfig,
  type NetworkSpec,
  type Service,
} from '../../proto/index.ts';
import {
  AddressPool,
  bitsOf,
  nodeInside,
  overlaps,
  parseSubnet as parseCidr,
  type Subnet,
} from '../allocator/index.ts';
import type { ReadView, Transaction } from '../store/types.ts';
import { contains, parseSubnet } from './addresses.ts';
import { hasLabels, passesCommon } from './filters.ts';
import { resolve } from './lookup.ts';
import { validateDnsName } from './names.ts';
import type { Control, ControlOptions } from './types.ts';

const PREDEFINED_LABEL = 'com.docker.swarm.predefined';
const INTERNAL_LABEL = 'com.docker.swarm.internal';
/** Names of the networks that every engine has. */
const PREDEFINED_NAMES: ReadonlySet<string> = new Set(['bridge', 'host', 'none', 'default']);
const OVERLAY = 'overlay';

/** @throws ShoalError InvalidArgument in Docker's words */
function validateIpamConfig(config: IPAMConfig): void {
  if (config.subnet === '') throw invalidArgument('ipam configuration: subnet required');
  const subnet = parseSubnet(config.subnet);
  if (subnet === undefined) throw invalidArgument(`ipam configuration: invalid subnet ${config.subnet}`);
  if (config.range !== '') {
    const range = parseSubnet(config.range);
    if (range === undefined) throw invalidArgument(`ipam configuration: invalid range ${config.range}`);
    if (!contains(subnet, range.address) || range.length < subnet.length) {
      throw invalidArgument(`ipam configuration: subnet ${config.subnet} does not contain range ${config.range}`);
    }
  }
  for (const [what, address] of [['gateway', config.gateway], ...Object.entries(config.reserved)] as const) {
    if (address === '') continue;
    if (isIP(address) === 0) throw invalidArgument(`ipam configuration: invalid ${what} ${address}`);
    if (!contains(subnet, address)) {
      throw invalidArgument(`ipam configuration: subnet ${config.subnet} does not contain ${what} ${address}`);
    }
  }
  const { usable } = new AddressPool(config);
  if (usable < 1) {
    throw invalidArgument(
      `ipam configuration: subnet ${config.subnet} has no address to give: its range, gateway and auxiliary ` +
        'addresses leave none; use a larger range',
    );
  }
}

function validateDriver(spec: NetworkSpec): void {
  const driver = spec.driver_config;
  if (driver === null) return;
  if (driver.name === '') throw invalidArgument('driver name: if driver is specified name is required');
  if (driver.name !== OVERLAY) {
    if (spec.ingress) {
      throw new ShoalError('Unimplemented', 'only overlay driver is currently supported for ingress network');
    }
    throw notFound(`plugin "${driver.name}" not found`);
  }
  const encrypted = driver.options['encrypted'] ?? '';
  if (!/^(?:true|t|1|false|f|0)?$/i.test(encrypted)) {
    throw invalidArgument(`invalid value "${encrypted}" of the network option "encrypted": true or false is expected`);
  }
}

function validate(spec: NetworkSpec | null): NetworkSpec {
  if (spec === null) throw invalidArgument('a network spec must be provided');
  if (spec.ingress && spec.attachable) throw invalidArgument('ingress network cannot be attachable');
  const name = validateDnsName(spec.annotations);
  if (PREDEFINED_NAMES.has(name)) {
    throw new ShoalError('PermissionDenied', `operation is not permitted on predefined ${name} network`);
  }
  for (const label of [INTERNAL_LABEL, PREDEFINED_LABEL]) {
    if (spec.annotations !== null && Object.hasOwn(spec.annotations.labels, label)) {
      throw new ShoalError(
        'PermissionDenied',
        `label ${label} is for internally created networks and cannot be used by users`,
      );
    }
  }
  validateDriver(spec);
  const ipamDriver = spec.ipam?.driver?.name ?? '';
  if (ipamDriver !== '' && ipamDriver !== 'default') throw notFound(`ipam driver "${ipamDriver}" not found`);
  for (const config of spec.ipam?.configs ?? []) validateIpamConfig(config);
  return spec;
}

/** Services that publish a port through the ingress network. */
function publishesIngress(service: Service): boolean {
  return (service.spec?.endpoint?.ports ?? []).some((port) => port.publish_mode === PortConfig_PublishMode.INGRESS);
}

/** Tasks count only while their service exists: those of a removed service go away by themselves. */
function checkUnused(tx: Transaction, network: Network): void {
  const [service] = tx.servicesByNetwork(network.id);
  if (service !== undefined) throw failedPrecondition(`network ${network.id} is in use by service ${service.id}`);
  const task = tx
    .list('task')
    .find(
      (one) =>
        one.desired_state <= TaskState.RUNNING &&
        (one.status?.state ?? TaskState.NEW) <= TaskState.RUNNING &&
        (one.service_id === '' || tx.get('service', one.service_id) !== undefined) &&
        one.networks.some((attachment) => attachment.network?.id === network.id),
    );
  if (task !== undefined) throw failedPrecondition(`network ${network.id} is in use by task ${task.id}`);
}

function checkRemovable(tx: Transaction, network: Network): void {
  const name = network.spec?.annotations?.name ?? network.id;
  if (network.spec?.annotations?.labels[PREDEFINED_LABEL] === 'true') {
    throw new ShoalError('PermissionDenied', `${name} is a pre-defined network and cannot be removed`);
  }
  if (network.spec?.ingress === true) {
    const user = tx.list('service').find(publishesIngress);
    if (user !== undefined) {
      throw failedPrecondition(`ingress network cannot be removed because service ${user.id} depends on it`);
    }
  }
  checkUnused(tx, network);
}

/**
 * Subnets of other networks are the allocator's concern, as in Swarm: the network waits until its own come free.
 * @throws ShoalError when the given subnets are in the way of each other or of a node.
 */
function checkSubnets(tx: ReadView, spec: NetworkSpec): void {
  const own: Subnet[] = [];
  for (const config of spec.ipam?.configs ?? []) {
    const subnet = parseCidr(config.subnet);
    if (own.some((other) => overlaps(other, subnet))) {
      throw invalidArgument(`ipam configuration: subnet ${config.subnet} overlaps with another one of the network`);
    }
    own.push(subnet);
    const host = nodeInside(tx, subnet);
    if (host !== undefined) {
      throw invalidArgument(
        `subnet ${config.subnet} holds the address ${host.address} of node ` +
          `${host.node.description?.hostname ?? host.node.id}: tasks could not reach that host; use another subnet`,
      );
    }
  }
}

function checkNew(tx: ReadView, spec: NetworkSpec): void {
  const name = spec.annotations?.name ?? '';
  if (tx.byName('network', name) !== undefined) throw alreadyExists(`network with name ${name} already exists`);
  checkSubnets(tx, spec);
  const ingress = spec.ingress ? tx.list('network').find((network) => network.spec?.ingress === true) : undefined;
  if (ingress !== undefined) {
    throw alreadyExists(`ingress network (${ingress.spec?.annotations?.name ?? ingress.id}) is already present`);
  }
}

/** Networks of the swarm scope. Addresses and tunnel ids are the allocator's work. */
export function networkMethods({
  store,
  random,
}: ControlOptions): Pick<Control, 'GetNetwork' | 'ListNetworks' | 'CreateNetwork' | 'RemoveNetwork'> {
  return {
    GetNetwork: async ({ reference }) => ({ network: resolve(store.view(), 'network', reference) }),

    ListNetworks: async ({ filters }) => {
      const found = store
        .view()
        .list('network')
        .filter((network) => {
          if (filters === null) return true;
          const annotations = network.spec?.annotations;
          return (
            passesCommon(filters, annotations?.name ?? '', network.id) && hasLabels(annotations?.labels, filters.labels)
          );
        });
      return { networks: found };
    },

    CreateNetwork: async (request) => {
      const spec = validate(request.spec);
      const id = newId(random);
      await store.update((tx) => {
        checkNew(tx, spec);
        const driver_config = spec.driver_config ?? { name: OVERLAY, options: {} };
        // A subnet of IPv6 says by itself that IPv6 is wanted.
        const hasIpv6 = (spec.ipam?.configs ?? []).some((config) => bitsOf(config.subnet) === 128);
        const ipv6_enabled = spec.ipv6_enabled || hasIpv6;
        tx.create('network', Network.create({ id, spec: { ...spec, driver_config, ipv6_enabled } }));
      });
      return { network: resolve(store.view(), 'network', id) };
    },

    RemoveNetwork: async ({ network_id }) => {
      await store.update((tx) => {
        const network = resolve(tx, 'network', network_id);
        checkRemovable(tx, network);
        tx.remove('network', network.id);
      });
      return {};
    },
  };
}
