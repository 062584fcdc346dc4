import type { ServerWritableStream } from '@grpc/grpc-js';
import { abortReason, ShoalError } from '../../base/index.ts';
import type { IncomingCall } from './access.ts';
import type { CallContext, Caller } from './calls.ts';

export type AnyCall = IncomingCall & {
  on(event: 'cancelled', listener: () => void): unknown;
  readonly cancelled: boolean;
};

/** The context of a call that is served here. Its signal is made when it is asked for: short calls never do. */
export class ServedCall implements CallContext {
  readonly nodeId: string;
  readonly role: Caller['role'];
  readonly address: string;
  readonly #call: AnyCall;
  #controller: AbortController | undefined;
  #lost = false;

  constructor(call: AnyCall, caller: Caller) {
    this.nodeId = caller.nodeId;
    this.role = caller.role;
    this.address = caller.address;
    this.#call = call;
  }

  get signal(): AbortSignal {
    if (this.#controller === undefined) {
      const controller = new AbortController();
      this.#controller = controller;
      const cancelled = (): void => controller.abort(new ShoalError('Aborted', 'the caller cancelled the call'));
      if (this.#lost) this.lost();
      else if (this.#call.cancelled) cancelled();
      else this.#call.on('cancelled', cancelled);
    }
    return this.#controller.signal;
  }

  /** The term of leadership in which the call is served has ended. */
  lost(): void {
    this.#lost = true;
    this.#controller?.abort(new ShoalError('Aborted', 'this manager is no longer the leader'));
  }

  /** The same with what the kind of call adds. */
  with<More extends object>(more: More): ServedCall & More {
    return Object.assign(this, more);
  }
}

/** Writes with back-pressure: resolves when the stream takes another message. */
export function writeTo(call: ServerWritableStream<Buffer, Buffer>, bytes: Buffer, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.reject(abortReason(signal));
  if (call.write(bytes)) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      call.off('drain', onDrain);
      reject(abortReason(signal));
    };
    const onDrain = (): void => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    };
    call.once('drain', onDrain);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}
