import { httpJson, must, ShoalError, systemClock } from '../../base/index.ts';
import type { Lab } from '../../lab/index.ts';
import type { Side } from '../hosts.ts';

/** Published port of the server's service. */
export const PUBLISHED_PORT = 15_201;
/** iperf3's own port, and that of the task's server. */
export const PORT = 5201;
const COMMAND = ['/bin/sh', '-c', 'trap "exit 0" TERM; sleep 1000000 & wait'];
const START_TIMEOUT_MS = 30_000;
const POLL_MS = 100;
/** Tunnel by hand, beside Shoal's own on 4789. */
const HAND = { vni: 77, port: 8472, link: 'handx', bridge: 'handb', subnet: '10.250.0' };

/** One end of a measurement: a network namespace, entered by a command. */
export interface Place {
  /** Lab host whose cgroup the program belongs to. */
  host: string;
  enter: readonly string[];
  address: string;
}

export interface Stage {
  lab: Lab;
  /** Containers of the overlay: the server, and clients on two other hosts. */
  server: Place;
  client: Place;
  other: Place;
  virtualAddress: string;
  /** The same hosts, joined by hand. */
  hand: { server: Place; client: Place };
  /** Underlay addresses by host. */
  addresses: ReadonlyMap<string, string>;
}

interface Task {
  NodeID?: string;
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

async function createService(side: Side, image: string, name: string, on: string, publish: boolean): Promise<void> {
  const ports = [{ Protocol: 'tcp', TargetPort: PORT, PublishedPort: PUBLISHED_PORT, PublishMode: 'ingress' }];
  const body = {
    Name: name,
    TaskTemplate: {
      ContainerSpec: { Image: image, Command: COMMAND, StopGracePeriod: 1_000_000_000 },
      Placement: { Constraints: [`node.hostname==${on}`] },
      Networks: [{ Target: 'bench' }],
    },
    Mode: { Replicated: { Replicas: 1 } },
    ...(publish ? { EndpointSpec: { Ports: ports } } : {}),
  };
  const host = must(side.hosts[0], 'first host').docker_host;
  await httpJson({ host, method: 'POST', path: '/services/create', body });
}

/** Runs a command on a lab host. @throws ShoalError with its words unless it exits with 0 */
export async function onHost(lab: Lab, host: string, command: readonly string[], timeoutMs = 30_000): Promise<string> {
  const result = await lab.capture(host, command, { timeoutMs });
  const text = result.stdout.toString('utf8');
  if (result.code === 0) return text;
  const words = `${result.stderr.toString('utf8')}${text}`.trim().slice(0, 500);
  throw new ShoalError('Internal', `${host}: ${command.join(' ')}: exit ${result.code}: ${words}`);
}

/** A bridge, a VXLAN link and a namespace with a veth on one host, as a handbook would make them. */
async function byHand(lab: Lab, host: string, own: string, peer: string, last: number): Promise<Place> {
  const { vni, port, link, bridge, subnet } = HAND;
  // The namespace is that of a sleeping process, which ends with the host.
  const sleeper = 'setsid unshare --net sleep 1000000 >/dev/null 2>&1 & sleep 0.5; echo $!';
  const pid = (await onHost(lab, host, ['sh', '-c', sleeper])).trim();
  const enter = ['nsenter', '--target', pid, '--net'];
  const script = [
    `ip link add ${bridge} type bridge`,
    `ip link add ${link} type vxlan id ${vni} dstport ${port} local ${own} remote ${peer}`,
    `ip link set ${link} mtu 1450 master ${bridge} up`,
    `ip link add handv mtu 1450 type veth peer name eth0h mtu 1450`,
    `ip link set eth0h netns ${pid} name eth0`,
    `ip link set handv master ${bridge} up`,
    `ip link set ${bridge} up`,
    `${enter.join(' ')} ip link set eth0 up`,
    `${enter.join(' ')} ip addr add ${subnet}.${last}/24 dev eth0`,
  ];
  await onHost(lab, host, ['sh', '-ec', script.join('\n')]);
  return { host, enter, address: `${subnet}.${last}` };
}

/** Services on an overlay, and a VXLAN made by hand between the same two hosts. */
export async function prepare(side: Side, image: string, signal: AbortSignal): Promise<Stage> {
  const { lab, hosts } = side;
  const host = must(hosts[0], 'first host').docker_host;
  const addresses = new Map(hosts.map(({ name, address }) => [name, address]));
  await httpJson({ host, method: 'POST', path: '/networks/create', body: { Name: 'bench', Driver: 'overlay' } });
  await createService(side, image, 'server', 'w2', true);
  await createService(side, image, 'client', 'w1', false);
  await createService(side, image, 'other', 'm1', false);
  const place = async (service: string, on: string): Promise<Place> => {
    const task = await runningTask(side, service, signal);
    const attachment = task.NetworksAttachments?.find((one) => one.Network.Spec.Name === 'bench');
    const address = must(attachment?.Addresses[0], `address of ${service}`).replace(/\/.*/, '');
    const pid = must(task.Status.ContainerStatus, `container of ${service}`).PID;
    return { host: on, enter: ['nsenter', '--target', String(pid), '--net'], address };
  };
  const [server, client, other] = [
    await place('server', 'w2'),
    await place('client', 'w1'),
    await place('other', 'm1'),
  ];
  const { Id } = await httpJson<{ Id: string }>({ host, method: 'GET', path: '/networks/bench' });
  interface Service {
    Endpoint: { VirtualIPs: { NetworkID: string; Addr: string }[] };
  }
  const { Endpoint } = await httpJson<Service>({ host, method: 'GET', path: '/services/server' });
  const vip = Endpoint.VirtualIPs.find(({ NetworkID }) => NetworkID === Id)?.Addr;
  const [w1, w2] = [must(addresses.get('w1'), 'w1'), must(addresses.get('w2'), 'w2')];
  const hand = { client: await byHand(lab, 'w1', w1, w2, 1), server: await byHand(lab, 'w2', w2, w1, 2) };
  const virtualAddress = must(vip, 'virtual address').replace(/\/.*/, '');
  return { lab, server, client, other, virtualAddress, hand, addresses };
}
