/** Keys that end an attached client and leave the process running: `ctrl-p,ctrl-q`, or what `--detach-keys` says. */

const DEFAULT = 'ctrl-p,ctrl-q';
const CONTROLS: Readonly<Record<string, number>> = {
  '@': 0x00,
  '[': 0x1b,
  '\\': 0x1c,
  ']': 0x1d,
  '^': 0x1e,
  _: 0x1f,
};

/** Bytes of a key sequence; undefined when one of its keys is none. */
export function detachBytes(text: string): number[] | undefined {
  const bytes: number[] = [];
  for (const key of (text === '' ? DEFAULT : text).split(',')) {
    const control = /^ctrl-(.)$/.exec(key)?.[1];
    const code =
      control === undefined ? undefined : /[a-z]/.test(control) ? control.charCodeAt(0) - 96 : CONTROLS[control];
    if (code !== undefined) bytes.push(code);
    else if (key.length === 1 && key.charCodeAt(0) < 0x80) bytes.push(key.charCodeAt(0));
    else return undefined;
  }
  return bytes;
}

/** Watches what is typed for the sequence. Keys of a sequence that has begun wait until it is known how it goes on. */
export class DetachFilter {
  readonly #keys: readonly number[];
  #matched = 0;

  constructor(keys: string) {
    this.#keys = detachBytes(keys) ?? detachBytes(DEFAULT) ?? [];
  }

  /** What may be sent of `data`; `detached` once the sequence is whole. */
  filter(data: Uint8Array): { send: Buffer; detached: boolean } {
    const send: number[] = [];
    for (const byte of data) {
      if (byte === this.#keys[this.#matched]) {
        this.#matched++;
        if (this.#matched === this.#keys.length) return { send: Buffer.from(send), detached: true };
        continue;
      }
      send.push(...this.#keys.slice(0, this.#matched));
      this.#matched = byte === this.#keys[0] ? 1 : 0;
      if (this.#matched === 0) send.push(byte);
    }
    return { send: Buffer.from(send), detached: false };
  }

  /** Keys that still wait when the input ends. */
  rest(): Buffer {
    return Buffer.from(this.#keys.slice(0, this.#matched));
  }
}
