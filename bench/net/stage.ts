import { httpJson, must, ShoalError, systemClock } from '../../base/index.ts';
import type { Side } from '../hosts.ts';
import type { Place } from './place.ts';

/** Published port of the server's service. */
export const PUBLISHED_PORT = 15_201;
/** iperf3's own port, and that of the task's server. */
export const PORT = 5201;
const COMMAND = ['/bin/sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];
const START_TIMEOUT_MS = 30_000;
const POLL_MS = 100;

/** Containers of an overlay on two hosts. */
export interface OverlayStage {
  server: Place;
  client: Place;
}

export interface ShoalStage extends OverlayStage {
  /** A client on a third host. */
  other: Place;
  virtualAddress: string;
  /** The third host itself, and underlay addresses by host. */
  outside: Place;
  addresses: ReadonlyMap<string, string>;
}

interface Task {
  Status: { State: string; Err?: string; ContainerStatus?: { PID: number } };
  NetworksAttachments?: { Network: { Spec: { Name: string } }; Addresses: string[] }[];
}

async function runningTask(side: Side, service: string, signal: AbortSignal): Promise<Task> {
  const host = must(side.hosts[0], 'first host').docker_host;
  const path = `/tasks?filters=${encodeURIComponent(JSON.stringify({ service: [service] }))}`;
  const began = systemClock.monotonic();
  for (;;) {
    const tasks = await httpJson<Task[]>({ host, method: 'GET', path });
    const running = tasks.find((task) => task.Status.State === 'running');
    if (running !== undefined) return running;
    if (systemClock.monotonic() - began > START_TIMEOUT_MS) {
      throw new ShoalError('DeadlineExceeded', `${service} does not run: ${JSON.stringify(tasks)}`);
    }
    await systemClock.sleep(POLL_MS, signal);
  }
}

async function createService(side: Side, image: string, name: string, on: string, endpoint: object): Promise<void> {
  const body = {
    Name: name,
    TaskTemplate: {
      ContainerSpec: { Image: image, Command: COMMAND, StopGracePeriod: 1_000_000_000 },
      Placement: { Constraints: [`node.hostname==${on}`] },
      Networks: [{ Target: 'bench' }],
    },
    Mode: { Replicated: { Replicas: 1 } },
    EndpointSpec: endpoint,
  };
  const host = must(side.hosts[0], 'first host').docker_host;
  await httpJson({ host, method: 'POST', path: '/services/create', body });
}

async function placeOf(side: Side, service: string, on: string, signal: AbortSignal): Promise<Place> {
  const task = await runningTask(side, service, signal);
  const attachment = task.NetworksAttachments?.find((one) => one.Network.Spec.Name === 'bench');
  const address = must(attachment?.Addresses[0], `address of ${service}`).replace(/\/.*/, '');
  const pid = must(task.Status.ContainerStatus, `container of ${service}`).PID;
  return { lab: side.lab, host: on, enter: ['nsenter', '--target', String(pid), '--net'], address };
}

function createNetwork(side: Side): Promise<unknown> {
  const host = must(side.hosts[0], 'first host').docker_host;
  const body = { Name: 'bench', Driver: 'overlay', Attachable: true };
  return httpJson({ host, method: 'POST', path: '/networks/create', body });
}

/** What works of an overlay without IPVS, on either side: two containers by address, names in turn (dnsrr). */
export async function prepareOverlay(side: Side, image: string, signal: AbortSignal): Promise<OverlayStage> {
  await createNetwork(side);
  await createService(side, image, 'server', 'w2', { Mode: 'dnsrr' });
  await createService(side, image, 'client', 'w1', { Mode: 'dnsrr' });
  return { server: await placeOf(side, 'server', 'w2', signal), client: await placeOf(side, 'client', 'w1', signal) };
}

/** Services on an overlay of Shoal, one of them with a published port. */
export async function prepareShoal(side: Side, image: string, signal: AbortSignal): Promise<ShoalStage> {
  const host = must(side.hosts[0], 'first host').docker_host;
  await createNetwork(side);
  const port = { Protocol: 'tcp', TargetPort: PORT, PublishedPort: PUBLISHED_PORT, PublishMode: 'ingress' };
  await createService(side, image, 'server', 'w2', { Ports: [port] });
  await createService(side, image, 'client', 'w1', {});
  await createService(side, image, 'other', 'm1', {});
  const [server, client, other] = [
    await placeOf(side, 'server', 'w2', signal),
    await placeOf(side, 'client', 'w1', signal),
    await placeOf(side, 'other', 'm1', signal),
  ];
  const { Id } = await httpJson<{ Id: string }>({ host, method: 'GET', path: '/networks/bench' });
  interface Service {
    Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] };
  }
  const { Endpoint } = await httpJson<Service>({ host, method: 'GET', path: '/services/server' });
  const vip = Endpoint.VirtualIPs.find(({ NetworkID }) => NetworkID === Id)?.Addr;
  const addresses = new Map(side.hosts.map(({ name, address }) => [name, address]));
  const outside = { lab: side.lab, host: 'm1', enter: [], address: must(addresses.get('m1'), 'm1') };
  const virtualAddress = must(vip, 'virtual address').replace(/\/.*/, '');
  return { server, client, other, virtualAddress, outside, addresses };
}
