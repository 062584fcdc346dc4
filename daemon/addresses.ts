import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import { errorMessage, invalidArgument, ShoalError, unavailable } from '../base/index.ts';

/** Port of a manager's gRPC server unless said otherwise. */
export const DEFAULT_SWARM_PORT = 2377;

/** Splits `host`, `host:port`, `[host]` and `[host]:port`. @throws ShoalError InvalidArgument */
export function splitHostPort(text: string, defaultPort: number): { host: string; port: number } {
  const match = /^(?:\[([^\]]+)\]|([^:]+)|((?:[0-9a-f]*:){2}[0-9a-f:.]*))(?::(\d+))?$/i.exec(text);
  const host = match?.[1] ?? match?.[2] ?? match?.[3];
  const port = match?.[4] === undefined ? defaultPort : Number(match[4]);
  if (host === undefined || port < 1 || port > 65_535) {
    throw invalidArgument(`invalid address ${text}: host[:port] is expected`);
  }
  return { host, port };
}

export function joinHostPort(host: string, port: number): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Completes `--listen-addr`; a bare port (`:2377`) and an interface name are understood. */
export function listenAddress(text: string): string {
  if (text === '') return `0.0.0.0:${DEFAULT_SWARM_PORT}`;
  const { host, port } = splitHostPort(text.startsWith(':') ? `0.0.0.0${text}` : text, DEFAULT_SWARM_PORT);
  return joinHostPort(interfaceAddress(host) ?? ipAddress(host, 'listen'), port);
}

function ipAddress(text: string, what: string): string {
  if (/^\d+\.\d+\.\d+\.\d+$/.test(text) || text.includes(':')) return text;
  throw invalidArgument(
    `${what} address must be an IP address or network interface (with optional port number): ${text}`,
  );
}

/** The one IPv4 address of an interface of that name, or undefined when there is no such interface. */
function interfaceAddress(name: string): string | undefined {
  const addresses = networkInterfaces()[name];
  if (addresses === undefined) return undefined;
  const usable = addresses.filter((address) => address.family === 'IPv4');
  if (usable.length > 1) {
    const list = usable.map((address) => address.address).join(' and ');
    throw invalidArgument(`interface ${name} has more than one IPv4 address (${list}); choose one`);
  }
  return usable[0]?.address ?? addresses[0]?.address;
}

/** Names of links that this daemon or an engine made; nobody advertises their addresses. */
const VIRTUAL_LINK = /^(docker|br-|veth|sh[0-9a-f]{4})/;

/**
 * The address to advertise: the given one (address or interface, with or without port), or the machine's only one.
 * @throws ShoalError InvalidArgument in Docker's words when the machine has several
 */
export function advertiseAddress(text: string, listen: string): string {
  const listenPort = splitHostPort(listen, DEFAULT_SWARM_PORT);
  if (text !== '') {
    const { host, port } = splitHostPort(text, listenPort.port);
    return joinHostPort(interfaceAddress(host) ?? ipAddress(host, 'advertise'), port);
  }
  if (listenPort.host !== '0.0.0.0' && listenPort.host !== '::') return listen;
  const candidates = Object.entries(networkInterfaces()).flatMap(([name, addresses]) =>
    (addresses ?? [])
      .filter((address) => address.family === 'IPv4' && !address.internal && !VIRTUAL_LINK.test(name))
      .map((address) => ({ name, address: address.address })),
  );
  const [first, second] = candidates;
  if (first === undefined) {
    throw invalidArgument("could not find the system's IP address - specify one with --advertise-addr");
  }
  if (second !== undefined) {
    const same = first.name === second.name;
    const list = same
      ? `${first.address} and ${second.address}`
      : `${first.address} on ${first.name} and ${second.address} on ${second.name}`;
    throw invalidArgument(
      same
        ? `could not choose an IP address to advertise since interface ${first.name} has multiple addresses (${list}) - specify one with --advertise-addr`
        : `could not choose an IP address to advertise since this system has multiple addresses on different interfaces (${list}) - specify one with --advertise-addr`,
    );
  }
  return joinHostPort(first.address, listenPort.port);
}

/** This host's address as seen on the way to `remote`. @throws ShoalError Unavailable when nobody answers there */
export function addressTowards(remote: string, timeoutMs: number): Promise<string> {
  const { host, port } = splitHostPort(remote, DEFAULT_SWARM_PORT);
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, timeout: timeoutMs });
    const fail = (text: string): void => {
      socket.destroy();
      reject(unavailable(`cannot reach the manager at ${remote}: ${text}`));
    };
    socket.on('connect', () => {
      const address = socket.localAddress;
      socket.destroy();
      if (address === undefined) reject(new ShoalError('Internal', 'a connected socket has an address'));
      else resolve(address);
    });
    socket.on('timeout', () => fail(`no answer within ${timeoutMs} ms`));
    socket.on('error', (error) => fail(errorMessage(error)));
  });
}
