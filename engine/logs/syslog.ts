import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { errorMessage, failedPrecondition, invalidArgument, type Clock } from '../../base/index.ts';
import type { LogLine } from '../types.ts';
import { firstExisting, streamSink, udpSink, unixDatagramSink, type Sink, type StreamTarget } from './sinks.ts';

const FACILITIES = (
  'kern user mail daemon auth syslog lpr news uucp cron authpriv ftp . . . . ' +
  'local0 local1 local2 local3 local4 local5 local6 local7'
).split(' ');
const FORMATS = ['', 'rfc3164', 'rfc5424', 'rfc5424micro'];
const SCHEMES = ['udp', 'tcp', 'tcp+tls', 'unix', 'unixgram'];
/** Where the host's own syslog listens. */
const LOCAL_SOCKETS = ['/dev/log', '/var/run/syslog', '/var/run/log'];
const DEFAULT_PORT = 514;
const SEVERITY = { stdout: 6, stderr: 3 } as const;
const MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ');

type Config = Readonly<Record<string, string>>;

interface Address {
  scheme: string;
  path: string;
  host: string;
  port: number;
}

function addressOf(text: string): Address {
  const match = /^([a-z+]+):\/\/(.*)$/.exec(text);
  const [scheme = '', rest = ''] = match?.slice(1) ?? [];
  if (!SCHEMES.includes(scheme)) throw invalidArgument(`syslog-address should be in form proto://address, got ${text}`);
  if (scheme.startsWith('unix')) {
    if (!rest.startsWith('/')) throw invalidArgument(`syslog-address ${text}: an absolute path is expected`);
    return { scheme, path: rest, host: '', port: 0 };
  }
  const form = /^(?:\[([^\]]+)\]|([^:/[\]]+))(?::(\d{1,5}))?$/.exec(rest);
  if (form === null) throw invalidArgument(`syslog-address ${text}: host[:port] is expected`);
  return { scheme, path: '', host: form[1] ?? form[2] ?? '', port: Number(form[3] ?? DEFAULT_PORT) };
}

function facilityOf(text: string): number {
  const number = text === '' ? 3 : /^\d+$/.test(text) ? Number(text) : FACILITIES.indexOf(text);
  if (text === '.' || number < 0 || number > 23) throw invalidArgument('invalid syslog facility');
  return number;
}

/** Checks the options of the syslog driver. @throws ShoalError InvalidArgument */
export function checkSyslog(config: Config): void {
  if (config['syslog-address'] !== undefined) addressOf(config['syslog-address']);
  facilityOf(config['syslog-facility'] ?? '');
  const format = config['syslog-format'] ?? '';
  if (!FORMATS.includes(format)) throw invalidArgument(`invalid syslog format: ${format}`);
}

/** @throws ShoalError FailedPrecondition when this host has no syslog of its own and no address was given. */
export function syslogSink(config: Config, clock: Clock): Sink {
  const text = config['syslog-address'];
  if (text === undefined) {
    const path = firstExisting(LOCAL_SOCKETS);
    if (path === undefined) {
      throw failedPrecondition('Unix syslog delivery error: no syslog listens on this host; give a syslog-address');
    }
    return unixDatagramSink(path, clock);
  }
  const { scheme, path, host, port } = addressOf(text);
  if (scheme === 'unixgram') return unixDatagramSink(path, clock);
  if (scheme === 'unix') return streamSink({ path });
  if (scheme === 'udp') return udpSink(host, port);
  return streamSink({ host, port, ...(scheme === 'tcp' ? {} : { tls: tlsOf(config) }) });
}

function tlsOf(config: Config): NonNullable<StreamTarget['tls']> {
  const file = (key: 'ca' | 'cert' | 'key', option: string): object => {
    const path = config[option];
    if (path === undefined) return {};
    try {
      return { [key]: readFileSync(path) };
    } catch (error) {
      throw failedPrecondition(`${option}: ${errorMessage(error)}`);
    }
  };
  return {
    ...file('ca', 'syslog-tls-ca-cert'),
    ...file('cert', 'syslog-tls-cert'),
    ...file('key', 'syslog-tls-key'),
    verify: config['syslog-tls-skip-verify'] === undefined,
  };
}

/** Jan _2 15:04:05 */
function stampOf(time: string): string {
  const date = new Date(time);
  return `${MONTHS[date.getUTCMonth()]} ${String(date.getUTCDate()).padStart(2)} ${time.slice(11, 19)}`;
}

/** Makes messages in the form that the options name (RFC 3164, RFC 5424, or the local one without a host). */
export function syslogMessages(config: Config, tag: string): (line: LogLine) => Buffer {
  const facility = facilityOf(config['syslog-facility'] ?? '');
  const format = config['syslog-format'] ?? '';
  // Lengths before messages are how RFC 5425 separates them; elsewhere a line end does.
  const counted = (config['syslog-address'] ?? '').startsWith('tcp+tls:') && format.startsWith('rfc5424');
  const host = hostname();
  const who = `${tag}[${process.pid}]:`;
  const head = ({ stream, time }: LogLine): string => {
    const priority = `<${facility * 8 + SEVERITY[stream]}>`;
    if (format === '') return `${priority}${stampOf(time)} ${who} `;
    if (format === 'rfc3164') return `${priority}${stampOf(time)} ${host} ${who} `;
    const stamp = format === 'rfc5424' ? `${time.slice(0, 19)}Z` : `${time.slice(0, 26)}Z`;
    return `${priority}1 ${stamp} ${host} ${tag} ${process.pid} ${tag} - `;
  };
  return (line) => {
    const text = line.data.at(-1) === 0x0a ? line.data : Buffer.concat([line.data, Buffer.from('\n')]);
    const message = Buffer.concat([Buffer.from(head(line)), text]);
    return counted ? Buffer.concat([Buffer.from(`${message.length} `), message]) : message;
  };
}
