import protobuf from 'protobufjs';
import { assert } from '../base/index.ts';
import { schema } from './gen/schema.ts';

/** Any subset of a message's fields, at every depth. */
export type Partially<T> = T extends Uint8Array | string | number | boolean | null | undefined
  ? T
  : T extends (infer Item)[]
    ? readonly Partially<Item>[]
    : { readonly [Key in keyof T]?: Partially<T[Key]> | undefined };

/** Creates, encodes, decodes and copies one kind of message. Values are plain objects with all defaults present. */
export interface MessageType<T> {
  readonly fullName: string;
  /** A whole message from some of its fields; the rest get proto3 defaults (null for messages, {} for maps). */
  create(fields?: Partially<T>): T;
  encode(value: Partially<T>): Uint8Array;
  /** @throws Error when the bytes are no such message. */
  decode(bytes: Uint8Array): T;
  /** A deep copy. */
  clone(value: T): T;
  /** Whether two messages have the same encoding. */
  equal(a: T | null | undefined, b: T | null | undefined): boolean;
}

// 64-bit integers are numbers here: every such field of ours stays below 2^53.
protobuf.util.Long = undefined as never;
protobuf.configure();

let root: protobuf.Root | undefined;

function lookup(fullName: string): protobuf.Type {
  root ??= protobuf.Root.fromJSON(schema as unknown as protobuf.INamespace);
  return root.lookupType(fullName);
}

const CONVERSION: protobuf.IConversionOptions = { defaults: true, arrays: true, objects: true, longs: Number };

/** The codec of a message of the schema; built at its first use. */
export function messageType<T>(fullName: string): MessageType<T> {
  let built: protobuf.Type | undefined;
  const type = (): protobuf.Type => (built ??= lookup(fullName));
  const decode = (bytes: Uint8Array): T => type().toObject(type().decode(bytes), CONVERSION) as T;
  const encode = (value: Partially<T>): Uint8Array =>
    type()
      .encode(value as Record<string, unknown>)
      .finish();
  return {
    fullName,
    create: (fields) => decode(encode(fields ?? ({} as Partially<T>))),
    encode,
    decode,
    clone: (value) => decode(encode(value as Partially<T>)),
    equal: (a, b) => {
      if (a === b) return true;
      if (a === null || a === undefined || b === null || b === undefined) return false;
      return Buffer.compare(encode(a as Partially<T>), encode(b as Partially<T>)) === 0;
    },
  };
}

/** Checks a number that stands for a uint64 of the wire. */
export function assertUint(value: number, what: string): void {
  assert(Number.isSafeInteger(value) && value >= 0, `${what} is a whole number below 2^53`);
}
