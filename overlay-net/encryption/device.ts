import { createSocket } from 'node:dgram';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import {
  errorMessage,
  failedPrecondition,
  ProgramFailed,
  runChecked,
  type Clock,
  type Logger,
  type SpawnRequest,
  type Spawner,
} from '../../base/index.ts';
import type { Kernel } from '../kernel/ops.ts';
import { endpointOf, hostPrefix, KEEPALIVE_S, type WireguardConfig } from './config.ts';
import { setRequest, UapiConnection, type WireguardState } from './uapi.ts';

/** Where WireGuard's userspace programs put their sockets (wg(8) looks there too). */
const SOCKETS = '/var/run/wireguard';
const START_TIMEOUT_MS = 10_000;

/** A program that was silent so often in a row hangs, and is replaced. */
const SILENCES_MAX = 2;

export interface DeviceOptions {
  kernel: Kernel;
  spawner: Spawner;
  clock: Clock;
  log: Logger;
  /** Name of the link, at most 15 characters, unique among all daemons that share a file system. */
  name: string;
  /** The namespace that the device is moved to; its encrypted datagrams still pass through that of the daemon. */
  namespace: string;
  /** Called when the program behind the device has ended. */
  onLost: () => void;
}

/**
 * One WireGuard device: the kernel's own where it has the module, else one that `wireguard-go` serves. It is born in the
 * daemon's namespace, where its socket stays, and moved into another.
 */
export class WireguardDevice {
  readonly #o: DeviceOptions;
  #connection: UapiConnection | undefined;
  /** Questions in a row that the program has not answered. */
  #silences = 0;

  constructor(options: DeviceOptions) {
    this.#o = options;
  }

  get #socket(): string {
    return join(SOCKETS, `${this.#o.name}.sock`);
  }

  /** Whether the program that serves the device has ended. */
  get lost(): boolean {
    return this.#connection?.lost ?? existsSync(this.#socket);
  }

  /** Makes the device, or takes it over. Returns whether it was made. @throws ShoalError FailedPrecondition */
  async ensure(listenPort: number, mtu: number): Promise<boolean> {
    const { kernel, namespace, name } = this.#o;
    const { links } = await kernel.state(namespace);
    const hangs = this.#silences >= SILENCES_MAX;
    if (!hangs && links.some((link) => link.name === name) && (await this.#reach())) return false;
    await this.remove();
    // It would keep the port that the next one needs.
    if (hangs) killProgram(name);
    this.#silences = 0;
    await assertFree(listenPort);
    if (!(await this.#makeInKernel())) await this.#makeByProgram();
    const lines = [`link set dev ${name} mtu ${mtu}`, `link set dev ${name} netns ${namespace}`];
    await runChecked(this.#o.spawner, { file: 'ip', args: ['-batch', '-'], stdin: `${lines.join('\n')}\n` });
    await this.#reach();
    return true;
  }

  /** Whether the device that is there can be set: always, when it is the kernel's own. */
  async #reach(): Promise<boolean> {
    if (this.#connection !== undefined && !this.#connection.lost) return true;
    if (!existsSync(this.#socket)) return true;
    try {
      const connection = await UapiConnection.open(this.#socket, this.#o.clock, () => {
        if (this.#connection !== connection) return;
        this.#connection = undefined;
        this.#o.onLost();
      });
      this.#connection = connection;
      return true;
    } catch {
      return false;
    }
  }

  async #makeInKernel(): Promise<boolean> {
    const { spawner, name, log } = this.#o;
    const made = await spawner.run({ file: 'ip', args: ['link', 'add', 'dev', name, 'type', 'wireguard'] });
    if (made.code === 0) {
      const tool = await spawner.run({ file: 'wg', args: ['--version'] }).catch(() => undefined);
      if (tool?.code === 0) return true;
      log.warn('the kernel has WireGuard, but the program wg (package wireguard-tools) is missing');
      await spawner.run({ file: 'ip', args: ['link', 'del', 'dev', name] });
    }
    return false;
  }

  async #makeByProgram(): Promise<void> {
    const { spawner, name } = this.#o;
    mkdirSync(SOCKETS, { recursive: true, mode: 0o755 });
    const request = {
      file: 'setsid',
      args: ['wireguard-go', name],
      leavesDaemon: true,
      timeoutMs: START_TIMEOUT_MS,
    };
    let words: string;
    try {
      const result = await spawner.run(request);
      if (result.code === 0 && existsSync(this.#socket) && (await this.#reach())) {
        // It goes on in the background and still asks for its link by name: that must not be moved before it answers.
        await this.#connection?.state();
        return;
      }
      words = new ProgramFailed(request, result).message;
    } catch (error) {
      words = errorMessage(error);
    }
    throw failedPrecondition(
      'this host cannot encrypt networks, so none is set up: the kernel has no WireGuard and wireguard-go does not ' +
        `start (${words.split('\n')[0]}); install the packages wireguard-go and wireguard-tools`,
    );
  }

  /** The device as it is. @throws ShoalError */
  async state(): Promise<WireguardState> {
    if (this.#connection !== undefined) {
      this.#silences++;
      const state = await this.#connection.state();
      this.#silences = 0;
      return state;
    }
    const { spawner, namespace, name } = this.#o;
    const args = [`--net=${namespace}`, 'wg', 'show', name, 'dump'];
    return parseDump(await runChecked(spawner, { file: 'nsenter', args }));
  }

  /** Leads the device to `config`; returns whether anything had to change. @throws ShoalError */
  async configure(config: WireguardConfig): Promise<boolean> {
    const state = await this.state();
    const request = setRequest(state, config);
    if (request === '') return false;
    if (this.#connection !== undefined) {
      await this.#connection.set(request);
      return true;
    }
    const { spawner, namespace, name } = this.#o;
    const sync = async (keepaliveS: number): Promise<void> => {
      await runChecked(spawner, syncRequest(namespace, name, configFile(config, keepaliveS)));
    };
    if (state.privateKey !== config.privateKey) await sync(0);
    await sync(KEEPALIVE_S);
    return true;
  }

  /** Takes the device away, and with it the program that serves it. */
  async remove(): Promise<void> {
    const { kernel, namespace, name } = this.#o;
    this.disconnect();
    if (existsSync(namespace)) await kernel.apply(namespace, [{ kind: 'link-del', name }]).catch(() => undefined);
    // Left by a crash before it was moved.
    await kernel.apply(null, [{ kind: 'link-del', name }]);
    // The program ends when its socket goes, too.
    rmSync(this.#socket, { force: true });
  }

  /** Lets go of the device and leaves it as it is. */
  disconnect(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.close();
  }
}

/** Ends the program that serves a device, known by its command line: the name is one daemon's alone. */
function killProgram(device: string): void {
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      if (readFileSync(`/proc/${pid}/cmdline`, 'utf8') !== `wireguard-go\0${device}\0`) continue;
      process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It ended by itself.
    }
  }
}

/** @throws ShoalError FailedPrecondition when another program has the UDP port. */
function assertFree(port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    socket.once('error', (error) => {
      socket.close();
      reject(
        failedPrecondition(
          `UDP port ${port}, which encrypted networks need (the one after the cluster's data path port), is not free on ` +
            `this host: ${error.message}`,
        ),
      );
    });
    socket.bind({ port, exclusive: true }, () => socket.close(() => resolve()));
  });
}

const base64 = (hex: string): string => Buffer.from(hex, 'hex').toString('base64');
const hex = (text: string | undefined): string => Buffer.from(text ?? '', 'base64').toString('hex');

/**
 * Leads a device to a configuration file by wg(8). The file holds secrets: it goes by a pipe, never as an argument (and not
 * by our own standard input: that is a socket, which cannot be opened by name).
 */
export function syncRequest(namespace: string, name: string, file: string): SpawnRequest {
  const script = 'cat | nsenter --net="$0" wg syncconf "$1" /dev/stdin';
  return { file: 'sh', args: ['-c', script, namespace, name], stdin: file };
}

/** wg(8)'s configuration file. */
export function configFile(config: WireguardConfig, keepaliveS: number): string {
  const peers = config.peers.map((peer) =>
    [
      '[Peer]',
      `PublicKey = ${base64(peer.publicKey)}`,
      `PresharedKey = ${base64(peer.presharedKey)}`,
      `Endpoint = ${endpointOf(peer.vtep, config.listenPort)}`,
      `AllowedIPs = ${hostPrefix(peer.vtep)}`,
      `PersistentKeepalive = ${keepaliveS === 0 ? 'off' : keepaliveS}`,
      '',
    ].join('\n'),
  );
  const head = `[Interface]\nPrivateKey = ${base64(config.privateKey)}\nListenPort = ${config.listenPort}\n`;
  return [head, ...peers].join('\n');
}

/** The answer of `wg show NAME dump`: tab-separated, the device first, then a line for each peer. */
export function parseDump(text: string): WireguardState {
  const [first = '', ...rest] = text.trim().split('\n');
  const [privateKey, , listenPort] = first.split('\t');
  const state: WireguardState = { privateKey: hex(privateKey), listenPort: Number(listenPort), peers: new Map() };
  for (const line of rest) {
    const [publicKey = '', psk, , allowed = '', handshake, , , keepalive] = line.split('\t');
    state.peers.set(hex(publicKey), {
      presharedKey: psk === '(none)' ? '' : hex(psk),
      allowedIps: allowed === '(none)' ? [] : allowed.split(','),
      keepaliveS: keepalive === 'off' ? 0 : Number(keepalive),
      handshakeS: Number(handshake),
    });
  }
  return state;
}
