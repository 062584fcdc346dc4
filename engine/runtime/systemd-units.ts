import { must, unavailable, type Clock } from '../../base/index.ts';
import { Limiter } from '../containers/limiter.ts';
import { SYSTEM_BUS } from './cgroup-driver.ts';
import { DbusConnection, DbusError, type DbusAddress, type DbusArgument } from './dbus.ts';

/** Where root reaches systemd also without a bus, as systemctl and runc do. */
const OWN_SOCKET = '/run/systemd/private';
const ADDRESSES: readonly DbusAddress[] = [{ path: SYSTEM_BUS }, { path: OWN_SOCKET, direct: true }];
const SYSTEMD = 'org.freedesktop.systemd1';
const NO_SUCH_UNIT = `${SYSTEMD}.NoSuchUnit`;
const POLL_MS = 2;
/** Together 10 s. */
const POLLS_MAX = 5000;
/** dbus-daemon takes 256 connections of one user (dbus-daemon(1), max_connections_per_user). */
const CONNECTIONS_MAX = 16;

/** Units of systemd, asked for over the system's bus (org.freedesktop.systemd1(5)). */
export class SystemdUnits {
  readonly #clock: Clock;
  readonly #addresses: readonly DbusAddress[];
  readonly #turns = new Limiter(CONNECTIONS_MAX);

  /** @param addresses the first one that takes connections is asked */
  constructor(clock: Clock, addresses = ADDRESSES) {
    this.#clock = clock;
    this.#addresses = addresses;
  }

  #with<T>(work: (call: (member: string, ...words: DbusArgument[]) => Promise<string>) => Promise<T>): Promise<T> {
    const manager = { destination: SYSTEMD, path: '/org/freedesktop/systemd1', interface: `${SYSTEMD}.Manager` };
    const ask = (address: DbusAddress): Promise<T> =>
      DbusConnection.use(address, this.#clock, (bus) =>
        work((member, ...words) => bus.call({ ...manager, member, arguments: words })),
      );
    return this.#turns.run(async () => {
      for (const address of this.#addresses.slice(0, -1)) {
        try {
          return await ask(address);
        } catch (error) {
          if (!nobodyListens(error)) throw error;
        }
      }
      return ask(must(this.#addresses.at(-1), 'an address'));
    });
  }

  /**
   * Makes systemd forget a scope whose processes have ended, so that its name is free for the next start. A scope that
   * it has let go by itself (its group was seen to be empty) is not there any more. Idempotent.
   * @throws ShoalError when systemd cannot be asked, or keeps the unit
   */
  async forget(unit: string): Promise<void> {
    await this.#with(async (call) => {
      for (let poll = 0; poll < POLLS_MAX; poll++) {
        if (!(await known(call('GetUnit', unit)))) return;
        if (poll === 0) await known(call('StopUnit', unit, 'replace'));
        // A unit that has failed is kept until someone has taken note of it.
        else await known(call('ResetFailedUnit', unit));
        await this.#clock.sleep(POLL_MS);
      }
      throw unavailable(`systemd keeps the unit ${unit}, whose processes have ended; see systemctl status ${unit}`);
    });
  }

  /** Limits the processes of a slice until the next boot, whether it stands already or not. @throws ShoalError */
  async limitTasks(slice: string, tasksMax: number): Promise<void> {
    const properties = [{ name: 'TasksMax', value: BigInt(tasksMax) }];
    await this.#with((call) => call('SetUnitProperties', slice, true, properties));
  }
}

const nobodyListens = (error: unknown): boolean =>
  ['ENOENT', 'ECONNREFUSED'].includes((error as NodeJS.ErrnoException).code ?? '');

/** Whether the unit of a call is there. @throws what else the call answers */
async function known(call: Promise<string>): Promise<boolean> {
  try {
    await call;
    return true;
  } catch (error) {
    if (error instanceof DbusError && error.errorName === NO_SUCH_UNIT) return false;
    throw error;
  }
}
