/** A broken invariant: a defect in this program, never a user's mistake. */
export class AssertionFailure extends Error {
  override readonly name = 'AssertionFailure';
}

/**
 * Checks an invariant. Stays on in production: a wrong state is stopped before it is stored or sent.
 * @throws AssertionFailure when `condition` is false.
 */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionFailure(message);
}

/** Marks a branch that the types rule out; compiles only while the switch before it is exhaustive. */
export function unreachable(value: never, message = 'unreachable'): never {
  throw new AssertionFailure(`${message}: ${JSON.stringify(value)}`);
}

/**
 * Returns `value` when it is neither null nor undefined.
 * @throws AssertionFailure otherwise, naming `what`.
 */
export function must<T>(value: T | null | undefined, what: string): T {
  if (value === null || value === undefined) throw new AssertionFailure(`${what} is missing`);
  return value;
}
