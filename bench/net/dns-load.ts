/**
 * Asks resolvers for names at a fixed rate, whether they keep up or not, and prints what came back as JSON. Arguments:
 * rate (questions/s), seconds, sockets per namespace, names (with commas), namespaces…
 */
import {
  AF_INET,
  DatagramBatch,
  inNetworkNamespace,
  must,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  socketAddress4,
  sockets,
} from '../../base/index.ts';

const [rateText = '', secondsText = '', perText = '', namesText = '', ...namespaces] = process.argv.slice(2);
const rate = Number(rateText);
const endMs = Number(secondsText) * 1000;
const BATCH = 64;
const BYTES = 512;
/** An answer that takes longer counts as lost, ms. */
const LATE_MS = 1000;

function question(name: string): Buffer {
  const head = Buffer.alloc(12);
  head.writeUInt16BE(0x0100, 2);
  head.writeUInt16BE(1, 4);
  const labels = name.split('.').map((label) => Buffer.concat([Buffer.of(label.length), Buffer.from(label)]));
  return Buffer.concat([head, ...labels, Buffer.of(0, 0, 1, 0, 1)]);
}

/** One client: a socket in a container's namespace, and when each of its ids was sent. */
interface Client {
  fd: number;
  sentMs: Float64Array;
  next: number;
}

const clients: Client[] = namespaces.flatMap((namespace) =>
  Array.from({ length: Number(perText) }, () => {
    const fd = inNetworkNamespace(namespace, () => {
      const made = sockets.open(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK);
      sockets.connect(made, socketAddress4('127.0.0.11', 53));
      return made;
    });
    return { fd, sentMs: new Float64Array(65_536), next: 0 };
  }),
);
const queries = namesText.split(',').map(question);
const batch = new DatagramBatch(BATCH, BYTES);
const latencies: number[] = [];
let sent = 0;
let wrong = 0;

function send(client: Client): void {
  const query = must(queries[sent % queries.length], 'a query');
  const id = client.next;
  client.next = (id + 1) & 0xffff;
  query.writeUInt16BE(id, 0);
  client.sentMs[id] = performance.now();
  sent++;
  try {
    sockets.send(client.fd, query);
  } catch {
    // The resolver's buffer is full or its socket is gone: lost, as a client would see it.
  }
}

function drain(client: Client): void {
  const count = batch.receive(client.fd);
  if (count === 0) return;
  const now = performance.now();
  for (let i = 0; i < count; i++) {
    const answer = batch.message(i);
    const id = answer.readUInt16BE(0);
    const took = now - must(client.sentMs[id], 'a time');
    if (took <= LATE_MS) latencies.push(took);
    if ((answer.readUInt16BE(2) & 15) !== 0 || answer.readUInt16BE(6) === 0) wrong++;
  }
}

const startMs = performance.now();
function turn(): void {
  const now = performance.now() - startMs;
  const due = Math.min(now, endMs) * (rate / 1000);
  // A generator that was held up itself does not make up for it in one burst.
  for (let i = 0; sent < due && i < 256; i++) send(must(clients[sent % clients.length], 'a client'));
  for (const client of clients) drain(client);
  if (now < endMs + 200) setTimeout(turn, 0.5);
  else report(now - 200);
}

function report(tookMs: number): void {
  latencies.sort((a, b) => a - b);
  const at = (share: number): number =>
    latencies[Math.min(latencies.length - 1, Math.floor(latencies.length * share))] ?? 0;
  const facts = { sent, answered: latencies.length, wrong, perSecond: latencies.length / (tookMs / 1000) };
  process.stdout.write(JSON.stringify({ ...facts, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }));
}
turn();
