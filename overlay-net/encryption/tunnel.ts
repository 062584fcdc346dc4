import { existsSync } from 'node:fs';
import { createHash } from 'node:crypto';
import type { Clock, Logger, Random, Spawner, Timer } from '../../base/index.ts';
import type { NetworkTable } from '../../proto/index.ts';
import { canonicalIp, familyOf } from '../ip.ts';
import type { Kernel, Op } from '../kernel/ops.ts';
import { INNER_TABLE } from '../plan-nft.ts';
import type { Underlay } from '../plan.ts';
import {
  hostPrefix,
  ownKeyIn,
  secureRules,
  WIREGUARD_OVERHEAD_BYTES,
  wireguardConfig,
  type WireguardConfig,
  wireguardPort,
} from './config.ts';
import { WireguardDevice } from './device.ts';
import { newPrivateKey, publicKeyOf, type NetworkKey } from './keys.ts';
import { KeyStore, type OwnKey, type Secrets } from './key-store.ts';

/** Age at which a node makes itself a new key pair, ms. */
const KEY_PERIOD_MS = 24 * 3_600_000;
/** Wait before a device whose program ended is made anew, ms; doubled with each end up to the cap. */
const HEAL_DELAY_MS = 100;
const HEAL_DELAY_MAX_MS = 5000;
/** A device that stood this long was sound: its end is healed without delay, ms. */
const SOUND_MS = 60_000;
/** Derived keys that are remembered; with more, all are forgotten. */
const MEMO_MAX = 10_000;

export interface SecureTunnelOptions {
  kernel: Kernel;
  spawner: Spawner;
  clock: Clock;
  random: Random;
  log: Logger;
  tag: string;
  execRoot: string;
  /** Directory of the keys. */
  stateDir: string;
  /** Path of the namespace that tunnels of encrypted networks run in. */
  namespace: string;
  /** Age at which the node's key pair is renewed, ms; default 24 h. */
  keyPeriodMs?: number;
  /** Is told what was found changed from outside and set right: the thing in words. */
  onSecureRepair?: (what: string, fault: 'missing' | 'changed') => void;
}

/** What shall stand in the tunnels' namespace beside the device's own settings. */
export interface SecureWanted {
  ops: readonly Op[];
  /** nft text of its rules. */
  rules: string;
}

/**
 * What encrypted networks run over: a network namespace whose only link is a WireGuard device. The VXLAN sockets of these
 * networks are born in it, so there is no other way out of them and none other into them: whatever fails, no packet
 * leaves in clear, and none that came in clear arrives. Inside, each node has the address that it has outside.
 */
export class SecureTunnel {
  readonly #o: SecureTunnelOptions;
  readonly #log: Logger;
  readonly #keys: KeyStore;
  readonly #device: WireguardDevice;
  readonly #name: string;
  #secrets: Secrets | undefined;
  #tables: readonly NetworkTable[] = [];
  #underlay: Underlay | undefined;
  #rules = '';
  #turn: Promise<unknown> = Promise.resolve();
  #healing: Timer | undefined;
  #healDelayMs = HEAL_DELAY_MS;
  #madeMs = -SOUND_MS;
  #fault: unknown;
  /** The device was seen to stand in this life: when it must be made again, somebody took it away. */
  #stood = false;
  /** What was wanted when all of it was last brought about; empty when it is not known to stand. */
  #applied = '';
  /** Pre-shared keys that were derived before. */
  readonly #memo = new Map<string, string>();
  #stopped = false;

  constructor(options: SecureTunnelOptions) {
    this.#o = options;
    this.#log = options.log;
    this.#keys = new KeyStore(options.stateDir, options.log);
    const unique = createHash('sha256').update(options.execRoot).digest('hex').slice(0, 6);
    this.#name = `sh${options.tag}w${unique}`;
    this.#device = new WireguardDevice({ ...options, name: this.#name, onLost: () => this.#onLost() });
  }

  /** Path of the namespace in which tunnels of encrypted networks are made. */
  get namespace(): string {
    return this.#o.namespace;
  }

  get inUse(): boolean {
    return this.#tables.length > 0;
  }

  /** Name of the WireGuard link. */
  get link(): string {
    return this.#name;
  }

  /** What shall stand by now; undefined while none is used, or while it is being brought about. */
  get wanted(): SecureWanted | undefined {
    const underlay = this.#underlay;
    if (!this.inUse || underlay === undefined || this.#applied === '') return undefined;
    return { ops: this.#linkOps(underlay), rules: this.#rules };
  }

  /** Puts the rules in place again, whatever stands there. @throws ShoalError */
  async renewRules(): Promise<void> {
    this.#rules = '';
    if (this.inUse) await this.#locked(() => this.#bring());
  }

  /** Makes a lost device anew. @throws ShoalError */
  async remake(): Promise<void> {
    if (this.inUse) await this.#locked(() => this.#bring());
  }

  /** Why encrypted networks do not stand at present; undefined when they do. */
  get fault(): unknown {
    return this.#fault;
  }

  #own(): Secrets {
    this.#secrets ??= this.#keys.load();
    if (this.#secrets === undefined) {
      this.#secrets = { own: this.#newKey(), networkKeys: [] };
      this.#keys.save(this.#secrets);
    }
    return this.#secrets;
  }

  #newKey(): OwnKey {
    return { privateKey: newPrivateKey(this.#o.random), createdMs: this.#o.clock.now() };
  }

  /** The public key that managers shall know this node by, 32 bytes. */
  publicKey(): Uint8Array {
    const { own, next } = this.#own();
    return Buffer.from(publicKeyOf((next ?? own).privateKey), 'hex');
  }

  /** The cluster's keys, as managers give and rotate them. */
  async setNetworkKeys(keys: readonly NetworkKey[]): Promise<void> {
    const secrets = this.#own();
    if (keys.length === 0 || JSON.stringify(keys) === JSON.stringify(secrets.networkKeys)) return;
    secrets.networkKeys = [...keys];
    this.#keys.save(secrets);
    await this.#locked(() => this.#bring());
  }

  /**
   * Follows the tables of all encrypted networks; with none, everything is taken away.
   * @throws ShoalError FailedPrecondition when this host cannot encrypt
   */
  sync(tables: readonly NetworkTable[], underlay: Underlay | undefined): Promise<void> {
    this.#tables = tables;
    this.#underlay = underlay;
    return this.#locked(async () => {
      // Most tables change nothing here; what was changed from outside is the upkeep's concern.
      if (this.inUse && !this.#device.lost && this.#wanted() === this.#applied) return;
      await this.#bring();
    });
  }

  /** Looks after keys and device: renews, and repairs what was changed from outside. */
  async upkeep(): Promise<void> {
    try {
      if (this.#stopped) return;
      this.#renew();
      if (this.inUse) await this.#locked(() => this.#bring());
    } catch (error) {
      this.#log.error('encrypted networks cannot be brought back', { error });
    }
  }

  /** Ends the watch, after what is under way; what is in the kernel stays. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#healing?.cancel();
    this.#device.disconnect();
    await this.#turn;
    this.#device.disconnect();
  }

  /** Takes everything away, the keys too. */
  async destroy(): Promise<void> {
    this.#tables = [];
    await this.#locked(() => this.#takeAway());
    this.#keys.remove();
    this.#secrets = undefined;
  }

  async #locked<T>(job: () => Promise<T>): Promise<T> {
    const next = this.#turn.then(job);
    this.#turn = next.catch(() => undefined);
    return next;
  }

  /** All that follows from tables and keys. */
  #wanted(): string {
    const underlay = this.#underlay;
    if (underlay === undefined) return '';
    const config = this.#config(underlay);
    return JSON.stringify([
      underlay,
      secureRules(this.#name, this.#tables, underlay),
      config,
      ownKeyIn(this.#tables, underlay),
    ]);
  }

  #config(underlay: Underlay): WireguardConfig {
    const { own, networkKeys } = this.#own();
    if (this.#memo.size > MEMO_MAX) this.#memo.clear();
    return wireguardConfig(this.#tables, underlay, own.privateKey, networkKeys, this.#memo);
  }

  async #bring(): Promise<void> {
    const before = this.#applied;
    this.#applied = '';
    try {
      const done = await this.#stand();
      this.#applied = this.#wanted();
      this.#fault = undefined;
      const { onSecureRepair } = this.#o;
      if (done === 'made' && this.#stood) onSecureRepair?.(`link ${this.#name}`, 'missing');
      if (done === 'set' && before === this.#applied) onSecureRepair?.(`peers of link ${this.#name}`, 'changed');
      this.#stood = done !== 'gone';
    } catch (error) {
      this.#fault = error;
      throw error;
    }
  }

  /** What the device carries. WireGuard itself drops what is for none of its peers. */
  #linkOps({ vtep, mtu }: Underlay): Op[] {
    const name = this.#name;
    return [
      { kind: 'addr', dev: name, address: hostPrefix(canonicalIp(vtep)) },
      { kind: 'link', name, up: true, mtu: mtu - WIREGUARD_OVERHEAD_BYTES },
      { kind: 'route', to: familyOf(vtep) === 6 ? '::/0' : '0.0.0.0/0', dev: name },
    ];
  }

  /** Returns what had to be done: the device be made, or be set otherwise; `gone` when none is needed. */
  async #stand(): Promise<'gone' | 'made' | 'set' | 'same'> {
    const { kernel, namespace } = this.#o;
    const underlay = this.#underlay;
    if (this.#tables.length === 0 || underlay === undefined) {
      await this.#takeAway();
      return 'gone';
    }
    await kernel.createNamespace(namespace);
    // Before there is a device: nothing but members' datagrams will pass.
    await this.#ensureRules();
    const mtu = underlay.mtu - WIREGUARD_OVERHEAD_BYTES;
    const name = this.#name;
    const { links, addresses } = await kernel.state(namespace);
    const index = links.find((link) => link.name === name)?.index;
    const vtep = canonicalIp(underlay.vtep);
    const address = hostPrefix(vtep);
    if (addresses.some((one) => one.dev === index && one.address !== address && !one.address.startsWith('fe80:'))) {
      this.#stood = false;
      await this.#device.remove();
    }
    const made = await this.#device.ensure(wireguardPort(underlay.dataPathPort), mtu);
    await kernel.apply(namespace, this.#linkOps(underlay));
    this.#takeNext(underlay);
    if (this.#own().networkKeys.length === 0) this.#log.warn('encrypted networks wait for the keys of the managers');
    const set = await this.#device.configure(this.#config(underlay));
    if (!made) return set ? 'set' : 'same';
    this.#madeMs = this.#o.clock.monotonic();
    this.#log.info('encrypted networks have a WireGuard device', { link: name });
    return 'made';
  }

  async #ensureRules(): Promise<void> {
    const { kernel, namespace } = this.#o;
    const rules = secureRules(this.#name, this.#tables, this.#underlay);
    if (rules === this.#rules) {
      const tables = await kernel.nft(namespace, 'list tables inet\n');
      if (tables.includes(`table inet ${INNER_TABLE}\n`)) return;
      this.#log.warn('the rules of encrypted networks vanished and are made again');
    }
    const off = familyOf(this.#underlay?.vtep ?? '') === 6 ? '0' : '1';
    await kernel.apply(namespace, [
      { kind: 'sysctl', path: 'net/ipv6/conf/all/disable_ipv6', value: off },
      { kind: 'sysctl', path: 'net/ipv6/conf/default/disable_ipv6', value: off },
    ]);
    await kernel.nft(namespace, rules);
    this.#rules = rules;
  }

  async #takeAway(): Promise<void> {
    this.#rules = '';
    this.#applied = '';
    if (!existsSync(this.#o.namespace)) return;
    await this.#device.remove();
    this.#o.kernel.removeNamespace(this.#o.namespace);
  }

  /** A new key pair when its time has come; it is used as soon as the managers' tables name it. */
  #renew(): void {
    const secrets = this.#own();
    const age = this.#o.clock.now() - secrets.own.createdMs;
    if (secrets.next !== undefined && !this.inUse) {
      secrets.own = secrets.next;
      delete secrets.next;
      this.#keys.save(secrets);
    }
    if (secrets.next !== undefined || age < (this.#o.keyPeriodMs ?? KEY_PERIOD_MS)) return;
    const fresh = this.#newKey();
    if (this.inUse) secrets.next = fresh;
    else secrets.own = fresh;
    this.#keys.save(secrets);
    this.#log.info('this node renews its key of encrypted networks');
  }

  #takeNext(underlay: Underlay): void {
    const secrets = this.#own();
    if (secrets.next === undefined) return;
    if (ownKeyIn(this.#tables, underlay) !== publicKeyOf(secrets.next.privateKey)) return;
    secrets.own = secrets.next;
    delete secrets.next;
    this.#keys.save(secrets);
  }

  #onLost(): void {
    this.#applied = '';
    if (this.#stopped || !this.inUse || this.#healing !== undefined) return;
    this.#log.warn('the WireGuard process has ended; encrypted networks stand still until it runs again');
    const sound = this.#o.clock.monotonic() - this.#madeMs >= SOUND_MS;
    const delayMs = sound ? HEAL_DELAY_MS : this.#healDelayMs;
    this.#healDelayMs = Math.min(delayMs * 2, HEAL_DELAY_MAX_MS);
    this.#healing = this.#o.clock.after(delayMs, () => {
      this.#healing = undefined;
      void this.upkeep();
    });
  }
}
