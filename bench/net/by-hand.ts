import { must } from '../../base/index.ts';
import type { Lab } from '../../lab/index.ts';
import { onHost, type Place } from './place.ts';

const VNI = 77;
const PORT = 8472;
const SUBNET = '10.250.0';
/** The router's address on the network, and the way out of it. */
const ROUTER = `${SUBNET}.254`;

/** What a handbook would make, on hosts where no daemon runs. */
export interface HandStage {
  /** Namespaces on w1 and w2, joined by a bridge and a VXLAN. */
  client: Place;
  server: Place;
  /** The host m1, from which `server` is reached by w1 as a plain router: the path of ingress by another host. */
  outside: Place;
}

/** A bridge, a VXLAN link and a namespace with a veth on one host. */
async function join(lab: Lab, host: string, own: string, peer: string, last: number): Promise<Place> {
  // The namespace is that of a sleeping process, which ends with the host.
  const sleeper = 'setsid unshare --net sleep 1000000 >/dev/null 2>&1 & sleep 0.5; echo $!';
  const pid = (await onHost(lab, host, ['sh', '-c', sleeper])).trim();
  const enter = ['nsenter', '--target', pid, '--net'];
  const inside = enter.join(' ');
  const script = [
    'ip link add handb type bridge',
    `ip link add handx type vxlan id ${VNI} dstport ${PORT} local ${own} remote ${peer}`,
    'ip link set handx mtu 1450 master handb up',
    'ip link add handv mtu 1450 type veth peer name eth0h mtu 1450',
    `ip link set eth0h netns ${pid} name eth0`,
    'ip link set handv master handb up',
    'ip link set handb up',
    `${inside} ip link set eth0 up`,
    `${inside} ip addr add ${SUBNET}.${last}/24 dev eth0`,
  ];
  await onHost(lab, host, ['sh', '-ec', script.join('\n')]);
  return { lab, host, enter, address: `${SUBNET}.${last}` };
}

/** Makes all of it on hosts m1, w1 and w2. No rules, no connection tracking: packets are forwarded and nothing else. */
export async function prepareByHand(lab: Lab): Promise<HandStage> {
  const hosts = await lab.up({ managers: 1, workers: 2, subnet: '', swarm: false, daemonFlags: [], daemons: false });
  const address = (name: string): string =>
    must(
      hosts.find((host) => host.name === name),
      name,
    ).address;
  const client = await join(lab, 'w1', address('w1'), address('w2'), 1);
  const server = await join(lab, 'w2', address('w2'), address('w1'), 2);
  await onHost(lab, 'w1', ['sh', '-ec', `ip addr add ${ROUTER}/24 dev handb; echo 1 >/proc/sys/net/ipv4/ip_forward`]);
  await onHost(lab, 'w2', [...server.enter, 'ip', 'route', 'add', 'default', 'via', ROUTER]);
  await onHost(lab, 'm1', ['ip', 'route', 'add', `${SUBNET}.0/24`, 'via', address('w1')]);
  return { client, server, outside: { lab, host: 'm1', enter: [], address: address('m1') } };
}
