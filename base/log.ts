import pino from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'fatal';

/** Structured facts of a log line. An `error` key may hold any thrown value. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Where a component writes its log. Messages are constant texts; what varies goes into fields. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger whose lines also carry `fields`; by convention `component` names the room or loop. */
  with(fields: LogFields): Logger;
}

function plain(fields: LogFields | undefined): LogFields {
  if (fields === undefined || !('error' in fields)) return fields ?? {};
  const { error, ...rest } = fields;
  if (!(error instanceof Error)) return { ...rest, error: String(error) };
  return { ...rest, error: error.message, stack: error.stack };
}

function adapt(target: pino.Logger): Logger {
  return {
    debug: (message, fields) => target.debug(plain(fields), message),
    info: (message, fields) => target.info(plain(fields), message),
    warn: (message, fields) => target.warn(plain(fields), message),
    error: (message, fields) => target.error(plain(fields), message),
    with: (fields) => adapt(target.child(fields)),
  };
}

export interface LogOptions {
  level: LogLevel;
  /** File descriptor written to; 2 is standard error. */
  fd: number;
}

/** A logger that writes one JSON object a line, synchronously, so that a crash loses no line. */
export function createLogger(options: LogOptions): Logger & { setLevel(level: LogLevel): void } {
  const target = pino(
    {
      level: options.level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ fd: options.fd, sync: true }),
  );
  return {
    ...adapt(target),
    setLevel: (level) => {
      target.level = level;
    },
  };
}

/** A logger that drops everything; for tests and pure drivers. */
export const silentLogger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
  with: () => silentLogger,
};
