import { existsSync } from 'node:fs';
import { failedPrecondition, type Clock } from '../../base/index.ts';
import type { LogLine } from '../types.ts';
import type { LogSubject } from './policy.ts';
import { unixDatagramSink, type Sink } from './sinks.ts';

/** systemd's socket of the native protocol. */
export const JOURNAL_SOCKET = '/run/systemd/journal/socket';
const PRIORITY = { stdout: '6', stderr: '3' } as const;

/** @throws ShoalError FailedPrecondition in Docker's words where there is no journald. */
export function journaldSink(clock: Clock, path: string): Sink {
  if (!existsSync(path)) throw failedPrecondition('journald is not enabled on this host');
  return unixDatagramSink(path, clock);
}

/** A name that the journal takes: capitals, digits and underscores, none of them first but a letter. */
function fieldName(text: string): string {
  return text
    .toUpperCase()
    .replace(/[^A-Z0-9]/g, '_')
    .replace(/^[_0-9]+/, '');
}

function field(name: string, value: string | Uint8Array): Buffer {
  const bytes = Buffer.from(value);
  if (!bytes.includes(0x0a)) return Buffer.concat([Buffer.from(`${name}=`), bytes, Buffer.from('\n')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(bytes.length));
  return Buffer.concat([Buffer.from(`${name}\n`), length, bytes, Buffer.from('\n')]);
}

/** Makes entries of the journal's native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) with Docker's field names. */
export function journaldMessages(
  subject: LogSubject,
  tag: string,
  attributes: Readonly<Record<string, string>>,
): (line: LogLine) => Buffer {
  const more = Object.entries(attributes).map(([name, value]) => [fieldName(name), value] as const);
  const fixed = Buffer.concat(
    [
      ['CONTAINER_ID', subject.id.slice(0, 12)] as const,
      ['CONTAINER_ID_FULL', subject.id] as const,
      ['CONTAINER_NAME', subject.name] as const,
      ['CONTAINER_TAG', tag] as const,
      ['IMAGE_NAME', subject.imageName] as const,
      ['SYSLOG_IDENTIFIER', tag] as const,
      ...more.filter(([name]) => name !== '' && name !== 'TAG'),
    ].map(([name, value]) => field(name, value)),
  );
  return (line) => {
    const complete = line.data.at(-1) === 0x0a;
    const text = complete ? line.data.subarray(0, -1) : line.data;
    return Buffer.concat([
      field('MESSAGE', text),
      field('PRIORITY', PRIORITY[line.stream]),
      field('SYSLOG_TIMESTAMP', line.time),
      ...(complete ? [] : [field('CONTAINER_PARTIAL_MESSAGE', 'true')]),
      fixed,
    ]);
  };
}
