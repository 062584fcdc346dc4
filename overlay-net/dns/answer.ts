/** What a resolver says, as a function of the question and the names that its networks hold. No I/O. */
import {
  CLASS_IN,
  decodeQuery,
  errorResponse,
  prepareResponse,
  RCODE,
  reverseAddress,
  TYPE,
  UDP_BYTES_MAX,
  writeResponse,
  type Answer,
  type Prepared,
  type Question,
} from './codec.ts';
import { resolveAddress, resolveName, resolveService, type Zone } from './zone.ts';

/** Addresses move with tasks: a record that a client keeps is wrong for no longer than this. */
export const TTL_SECONDS = 1;
/** Prepared responses kept for one set of networks; all are dropped when there are more. */
const CACHE_MAX = 4096;
/** Longest query whose response is kept, bytes. */
const CACHED_QUERY_BYTES_MAX = 512;
/** Largest response to a query by TCP, bytes. */
export const TCP_BYTES_MAX = 65_535;

export interface Records {
  rcode: number;
  answers: readonly Answer[];
  additional?: readonly Answer[];
}

const NOTHING: Records = { rcode: RCODE.OK, answers: [] };
const NO_NAME: Records = { rcode: RCODE.NO_NAME, answers: [] };

/** Records of the sandbox's networks; undefined when none of them knows the name, so that others may be asked. */
export function answerLocally(question: Question, zones: readonly Zone[]): Records | undefined {
  if (question.class !== CLASS_IN) return undefined;
  const { name, type } = question;
  const address = type === TYPE.PTR || type === TYPE.ANY ? reverseAddress(name) : undefined;
  if (address !== undefined) {
    const known = resolveAddress(zones, address);
    return known === undefined ? undefined : { rcode: RCODE.OK, answers: [{ type: 'PTR', name: known }] };
  }
  const addresses = resolveName(zones, name);
  if (addresses !== undefined) return { rcode: RCODE.OK, answers: addressRecords(addresses, type) };
  return name.startsWith('_') ? answerPorts(question, zones) : isOurs(name, zones) ? NO_NAME : undefined;
}

function addressRecords(addresses: readonly string[], type: number, owner?: string): Answer[] {
  const records = addresses.map((address): Answer => {
    const record = { type: address.includes(':') ? ('AAAA' as const) : ('A' as const), address };
    return owner === undefined ? record : { ...record, owner };
  });
  return records.filter((record) => type === TYPE[record.type] || type === TYPE.ANY);
}

/** `tasks.SERVICE` (also with a network's name behind) is asked of nobody else: it means something here only. */
function isOurs(name: string, zones: readonly Zone[]): boolean {
  if (!name.startsWith('tasks.')) return false;
  const labels = name.split('.');
  return labels.length === 2 || zones.some(({ network }) => name.endsWith(`.${network}`));
}

const PORT_NAME = /^(?:_([^.]+)\.)?_(tcp|udp|sctp)\.(tasks\.)?(.+)$/;

/** `_PORT._PROTOCOL.SERVICE` and `_PROTOCOL.SERVICE` (RFC 2782); with `tasks.` before SERVICE, each task by itself. */
function answerPorts(question: Question, zones: readonly Zone[]): Records | undefined {
  const match = PORT_NAME.exec(question.name);
  const service = match === null ? undefined : resolveService(zones, match[4] ?? '');
  if (match === null || service === undefined) return undefined;
  const [, portName, protocol, byTask] = match;
  const ports = service.ports.filter((port) => {
    return port.protocol === protocol && (portName === undefined || port.name === portName);
  });
  if (ports.length === 0) return NO_NAME;
  if (question.type !== TYPE.SRV && question.type !== TYPE.ANY) return NOTHING;
  const whole = service.virtual && byTask === undefined;
  const targets = whole ? [{ target: service.target, weight: 1 }] : service.tasks;
  const answers = ports.flatMap(({ port }) => {
    return targets.map(({ target, weight }): Answer => ({ type: 'SRV', priority: 0, weight, port, target }));
  });
  const additional = targets.flatMap(({ target }) => {
    return addressRecords(resolveName(zones, target) ?? [], TYPE.ANY, target);
  });
  return { rcode: RCODE.OK, answers, additional };
}

/** What to do with a query: a response was written, it must go to other resolvers, or nothing is to be said. */
export const FORWARD = -1;
export const SILENCE = 0;

/**
 * A set of networks as the resolvers of the sandboxes on just these networks see it. Responses are prepared once for
 * each question and dropped with `changed`.
 */
export class NameView {
  readonly zoneIds: readonly string[];
  readonly #zones: () => readonly Zone[];
  readonly #prepared = new Map<string, Prepared>();
  #current: readonly Zone[] | undefined;
  #turn = 0;

  constructor(zoneIds: readonly string[], zones: () => readonly Zone[]) {
    this.zoneIds = zoneIds;
    this.#zones = zones;
  }

  /** Forgets all: one of its zones is another now. */
  changed(): void {
    this.#prepared.clear();
    this.#current = undefined;
  }

  /** Writes the response to a query into `into`; returns its length, FORWARD or SILENCE. */
  answer(query: Buffer, transport: 'udp' | 'tcp', into: Buffer): number {
    const short = transport === 'udp' && query.length <= CACHED_QUERY_BYTES_MAX;
    // All but the id.
    const key = short ? query.toString('latin1', 2) : '';
    let prepared = short ? this.#prepared.get(key) : undefined;
    if (prepared === undefined) {
      const question = decodeQuery(query);
      if (question === undefined) return errorResponse(query)?.copy(into) ?? SILENCE;
      const records = answerLocally(question, (this.#current ??= this.#zones()));
      if (records === undefined) return FORWARD;
      const limitBytes = transport === 'udp' ? Math.min(question.udpBytes, UDP_BYTES_MAX) : TCP_BYTES_MAX;
      prepared = prepareResponse(query, question, { ...records, ttlSeconds: TTL_SECONDS }, limitBytes);
      if (short) {
        if (this.#prepared.size >= CACHE_MAX) this.#prepared.clear();
        this.#prepared.set(key, prepared);
      }
    }
    this.#turn = (this.#turn + 1) >>> 0;
    return writeResponse(prepared, ((query[0] as number) << 8) | (query[1] as number), this.#turn, into);
  }
}
