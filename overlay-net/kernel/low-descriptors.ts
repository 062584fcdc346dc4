import { closeSync, openSync } from 'node:fs';
import { assert, ShoalError, sockets } from '../../base/index.ts';

/** libnftables waits with select(2), whose sets end here; a larger descriptor ends the whole process (abort in FD_SET). */
const FD_SETSIZE = 1024;
/** Kept free of other use; many since anything opened while a number changes hands takes it, and may keep it for long. */
const KEPT = 64;
const SOL_SOCKET = 1;
const SO_PROTOCOL = 38;
const NETLINK_NETFILTER = 12;

/** Nothing was done; a process of its own has small numbers. */
export class NoSmallDescriptor extends ShoalError {
  constructor() {
    super('ResourceExhausted', `nftables needs a descriptor below ${FD_SETSIZE}, and all are in use`);
  }
}

/** Descriptors with small numbers, held back for the library that needs one, however many others are open. */
export class LowDescriptors {
  readonly #kept: number[] = [];

  constructor() {
    this.refill();
  }

  /** Takes back what is free: the system gives out the lowest number, so those just closed come first. */
  refill(): void {
    while (this.#kept.length < KEPT) {
      const fd = openSync('/dev/null', 'r');
      if (fd >= FD_SETSIZE) {
        closeSync(fd);
        return;
      }
      this.#kept.push(fd);
    }
  }

  /**
   * Opens a netfilter socket with a small number. @param open must open it and nothing before it; @param discard undoes
   * one whose number was taken by another thread.
   * @throws NoSmallDescriptor
   */
  take<T>(open: () => T, discard: (opened: T) => void): T {
    this.refill();
    for (let fd = this.#kept.pop(); fd !== undefined; fd = this.#kept.pop()) {
      assert(fd < FD_SETSIZE, 'a kept descriptor is small');
      closeSync(fd);
      const opened = open();
      if (isNetfilterSocket(fd)) return opened;
      discard(opened);
    }
    throw new NoSmallDescriptor();
  }
}

function isNetfilterSocket(fd: number): boolean {
  try {
    return sockets.numberOption(fd, SOL_SOCKET, SO_PROTOCOL) === NETLINK_NETFILTER;
  } catch {
    return false;
  }
}
