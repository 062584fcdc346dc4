import { quote } from './units.ts';

/** A row of a table: its fields by name. Functions are fields that take arguments, and are left out of JSON. */
export class Row {
  readonly typeName: string;
  readonly fields: Readonly<Record<string, unknown>>;

  constructor(typeName: string, fields: Readonly<Record<string, unknown>>) {
    this.typeName = typeName;
    this.fields = fields;
  }

  /** Fields in the order of their names, as docker writes them. */
  toJSON(): Record<string, unknown> {
    const entries = Object.entries(this.fields).filter(([, value]) => typeof value !== 'function');
    return Object.fromEntries(entries.sort(([a], [b]) => (a < b ? -1 : 1)));
  }
}

/** A map whose missing keys are no error: `<no value>` stands for them. */
export class LooseMap {
  readonly entries: Readonly<Record<string, unknown>>;

  constructor(entries: Readonly<Record<string, unknown>>) {
    this.entries = entries;
  }

  toJSON(): Readonly<Record<string, unknown>> {
    return this.entries;
  }
}

/** Fields that the API leaves out when they are empty, with the value that stands for them in a format. */
const LEFT_OUT: Readonly<Record<string, unknown>> = {
  UpdateStatus: null,
  PreviousSpec: null,
  ServiceStatus: null,
  JobStatus: null,
  ManagerStatus: null,
  UpdateConfig: null,
  RollbackConfig: null,
  EndpointSpec: null,
  RestartPolicy: null,
  Healthcheck: null,
  LogDriver: null,
  ContainerStatus: null,
  Health: null,
  Replicated: null,
  Global: null,
  ReplicatedJob: null,
  GlobalJob: null,
  JobIteration: null,
  Driver: null,
  Templating: null,
  Labels: null,
  Args: null,
  Command: null,
  Env: null,
  Mounts: null,
  Secrets: null,
  Configs: null,
  Networks: null,
  NetworksAttachments: null,
  Ports: null,
  VirtualIPs: null,
  Constraints: null,
  Preferences: null,
  Platforms: null,
  Err: '',
  Message: '',
  NodeID: '',
  Slot: 0,
  Name: '',
  Leader: false,
  PublishedPort: 0,
  Hostname: '',
  User: '',
  Dir: '',
  ExitCode: 0,
};

/** A field of a value, called with `given` when it is a function. @throws Error in Go's words when there is none */
export function fieldOf(value: unknown, name: string, text: string, given: readonly unknown[]): unknown {
  if (value instanceof Row) {
    if (!Object.hasOwn(value.fields, name)) {
      throw new Error(
        `template parsing error: template: :1:2: executing "" at <${text}>: can't evaluate field ${name} in type ${value.typeName}`,
      );
    }
    const field = value.fields[name];
    return typeof field === 'function' ? (field as (...values: unknown[]) => unknown)(...given) : field;
  }
  if (value instanceof LooseMap) return value.entries[name];
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
    if (Object.hasOwn(value, name)) return (value as Record<string, unknown>)[name];
    if (Object.hasOwn(LEFT_OUT, name)) return LEFT_OUT[name];
    throw new Error(
      `template parsing error: template: :1:2: executing "" at <${text}>: map has no entry for key ${quote(name)}`,
    );
  }
  if (value === null || value === undefined) {
    throw new Error(
      `template parsing error: template: :1:2: executing "" at <${text}>: nil pointer evaluating interface {}.${name}`,
    );
  }
  throw new Error(
    `template parsing error: template: :1:2: executing "" at <${text}>: can't evaluate field ${name} in type ${typeof value}`,
  );
}

/** Whether a value counts as true: not empty, zero or nil. */
export function isTruthy(value: unknown): boolean {
  if (Array.isArray(value)) return value.length > 0;
  if (value instanceof Row) return true;
  if (typeof value === 'object' && value !== null) return Object.keys(value).length > 0;
  return Boolean(value);
}

function inner(value: unknown): string {
  if (value === null || value === undefined) return '<nil>';
  if (Array.isArray(value)) return `[${value.map(inner).join(' ')}]`;
  if (value instanceof Row || value instanceof LooseMap) return inner(value.toJSON());
  if (typeof value === 'object') {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `map[${entries.map(([key, item]) => `${key}:${inner(item)}`).join(' ')}]`;
  }
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** A value as Go's `%v` prints it. */
export function print(value: unknown): string {
  if (value === undefined) return '<no value>';
  return inner(value);
}

/** JSON in Go's way: keys of maps in order, `<`, `>` and `&` escaped when a row is written. */
export function goJson(value: unknown): string {
  const text = JSON.stringify(value ?? null);
  const escaped = text.replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029');
  if (!(value instanceof Row)) return escaped;
  return escaped.replaceAll('<', '\\u003c').replaceAll('>', '\\u003e').replaceAll('&', '\\u0026');
}
