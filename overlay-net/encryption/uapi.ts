/** WireGuard's cross-platform configuration protocol (wireguard.com/xplatform) over a local socket. */
import { connect, type Socket } from 'node:net';
import { ShoalError, unavailable, type Clock } from '../../base/index.ts';
import { endpointOf, hostPrefix, KEEPALIVE_S, type WireguardConfig, type WireguardPeer } from './config.ts';

/** Longest answer that is read, bytes: a device with some 10,000 peers. */
const ANSWER_MAX_BYTES = 4 * 1024 * 1024;
/** A connection that stays silent for so long is closed. */
const ANSWER_TIMEOUT_MS = 2000;

/** A device as it reported itself. */
export interface WireguardState {
  privateKey: string;
  listenPort: number;
  peers: Map<string, { presharedKey: string; allowedIps: string[]; keepaliveS: number; handshakeS: number }>;
}

/** The lines of an answer to `get=1`. */
export function parseState(text: string): WireguardState {
  const state: WireguardState = { privateKey: '', listenPort: 0, peers: new Map() };
  let peer: { presharedKey: string; allowedIps: string[]; keepaliveS: number; handshakeS: number } | undefined;
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    const [key, value] = [line.slice(0, at), line.slice(at + 1)];
    if (key === 'private_key') state.privateKey = value;
    else if (key === 'listen_port') state.listenPort = Number(value);
    else if (key === 'public_key') {
      peer = { presharedKey: '', allowedIps: [], keepaliveS: 0, handshakeS: 0 };
      state.peers.set(value, peer);
    } else if (peer === undefined) continue;
    else if (key === 'preshared_key') peer.presharedKey = value;
    else if (key === 'allowed_ip') peer.allowedIps.push(value);
    else if (key === 'persistent_keepalive_interval') peer.keepaliveS = Number(value);
    else if (key === 'last_handshake_time_sec') peer.handshakeS = Number(value);
  }
  return state;
}

function peerLines(peer: WireguardPeer, port: number): string[] {
  return [
    `public_key=${peer.publicKey}`,
    `preshared_key=${peer.presharedKey}`,
    `endpoint=${endpointOf(peer.vtep, port)}`,
    'replace_allowed_ips=true',
    `allowed_ip=${hostPrefix(peer.vtep)}`,
    `persistent_keepalive_interval=${KEEPALIVE_S}`,
  ];
}

function alike(known: ReturnType<WireguardState['peers']['get']>, peer: WireguardPeer): boolean {
  if (known === undefined || known.presharedKey !== peer.presharedKey || known.keepaliveS !== KEEPALIVE_S) return false;
  return known.allowedIps.length === 1 && known.allowedIps[0] === hostPrefix(peer.vtep);
}

/**
 * The request that leads a device from `state` to `config`; empty when they are alike. Sessions of peers that stay are
 * kept, unless this node's own key changes: then each peer is made to begin anew at once.
 */
export function setRequest(state: WireguardState, config: WireguardConfig): string {
  const lines: string[] = [];
  const rekeyed = state.privateKey !== config.privateKey;
  if (rekeyed) lines.push(`private_key=${config.privateKey}`);
  if (state.listenPort !== config.listenPort) lines.push(`listen_port=${config.listenPort}`);
  const wanted = new Set(config.peers.map((peer) => peer.publicKey));
  // First, so that an address moves from an old key to a new one.
  for (const key of state.peers.keys()) if (!wanted.has(key)) lines.push(`public_key=${key}`, 'remove=true');
  for (const peer of config.peers) {
    const known = state.peers.get(peer.publicKey);
    if (!rekeyed && alike(known, peer)) continue;
    // A sign of life is sent when the interval comes from 0: so the handshake begins now, not with the next packet.
    if (known !== undefined) lines.push(`public_key=${peer.publicKey}`, 'persistent_keepalive_interval=0');
    lines.push(...peerLines(peer, config.listenPort));
  }
  return lines.length === 0 ? '' : `set=1\n${lines.join('\n')}\n\n`;
}

interface Waiting {
  resolve: (text: string) => void;
  reject: (error: Error) => void;
}

/** One connection to a WireGuard process; `onLost` is called once when the process's end closes. */
export class UapiConnection {
  readonly #socket: Socket;
  readonly #clock: Clock;
  readonly #waiting: Waiting[] = [];
  #text = '';
  #lost = false;

  private constructor(socket: Socket, clock: Clock, onLost: () => void) {
    this.#socket = socket;
    this.#clock = clock;
    socket.setEncoding('utf8');
    socket.on('data', (data: string) => this.#onData(data));
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#lost = true;
      for (const one of this.#waiting.splice(0)) one.reject(unavailable('the WireGuard process has ended'));
      onLost();
    });
    socket.unref();
  }

  /** @throws ShoalError Unavailable when nobody listens. */
  static open(path: string, clock: Clock, onLost: () => void): Promise<UapiConnection> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      const fail = (error: Error): void => reject(unavailable(`no WireGuard process at ${path}: ${error.message}`));
      socket.once('error', fail);
      socket.once('connect', () => {
        socket.off('error', fail);
        resolve(new UapiConnection(socket, clock, onLost));
      });
    });
  }

  get lost(): boolean {
    return this.#lost;
  }

  async state(): Promise<WireguardState> {
    return parseState(await this.#ask('get=1\n\n'));
  }

  /** @throws ShoalError Internal with the number of the process's error. */
  async set(request: string): Promise<void> {
    await this.#ask(request);
  }

  close(): void {
    this.#socket.destroy();
  }

  #onData(data: string): void {
    this.#text += data;
    if (this.#text.length > ANSWER_MAX_BYTES) return void this.#socket.destroy();
    for (;;) {
      const end = this.#text.indexOf('\n\n');
      if (end === -1) return;
      const answer = this.#text.slice(0, end);
      this.#text = this.#text.slice(end + 2);
      const waiting = this.#waiting.shift();
      const error = /^errno=(-?\d+)$/m.exec(answer)?.[1] ?? '0';
      if (error === '0') waiting?.resolve(answer);
      else waiting?.reject(new ShoalError('Internal', `the WireGuard process refused its settings (error ${error})`));
    }
  }

  #ask(request: string): Promise<string> {
    if (this.#lost) return Promise.reject(unavailable('the WireGuard process has ended'));
    return new Promise((resolve, reject) => {
      const timer = this.#clock.after(ANSWER_TIMEOUT_MS, () => this.#socket.destroy());
      const done =
        <T>(next: (value: T) => void) =>
        (value: T): void => {
          timer.cancel();
          next(value);
        };
      this.#waiting.push({ resolve: done(resolve), reject: done(reject) });
      this.#socket.write(request);
    });
  }
}
