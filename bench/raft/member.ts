/**
 * One member of our group, a process of its own: RaftNode, its log on the disk, its gRPC transport, and a port for
 * clients. The benchmark forks it with one argument (MemberSettings as JSON) and asks it over the channel of the fork.
 */
import * as grpc from '@grpc/grpc-js';
import { createLogger, errorMessage, invalidArgument, must, systemClock, systemRandom } from '../../base/index.ts';
import { RaftConfChange, RaftConfChangeType, RaftMember } from '../../proto/index.ts';
import {
  GrpcRaftTransport,
  hasWal,
  RaftNode,
  raftServiceDefinition,
  raftServiceHandlers,
  type StartMode,
} from '../../raft/index.ts';
import { serveGrpc, type Handle } from './grpc-server.ts';
import { KvMachine } from './kv.ts';
import { decodeRequest, encodePutResponse, encodeRangeResponse, PUT_PATH, RANGE_PATH } from './kv-messages.ts';
import { serveByLibrary } from './library-server.ts';
import type { MemberMemory, MemberQuestion, MemberSettings, MemberStatus } from './member-protocol.ts';
import { StallingDisk } from './stalling-disk.ts';

const settings = JSON.parse(must(process.argv[2], 'settings')) as MemberSettings;
const log = createLogger({ level: 'warn', fd: 2 }).with({
  member: settings.id,
});

/** A damaged or full disk ends the process; the benchmark sees it end. */
function die(error: unknown): void {
  console.error(`bench member ${settings.id}: ${errorMessage(error)}`);
  process.exit(3);
}

let node: RaftNode | undefined;
const transport = new GrpcRaftTransport({
  credentials: () => grpc.credentials.createInsecure(),
  channelOptions: {},
  clock: systemClock,
  random: systemRandom,
  log,
});
const disk = new StallingDisk(settings.dir, systemClock);
const machine = new KvMachine((id, address) => {
  if (address === undefined) transport.removePeer(id);
  else if (id !== settings.id) transport.addPeer(id, address);
}, settings.keepValues);

function self(id: number, addr: string): RaftMember {
  return RaftMember.create({ raft_id: id, node_id: `bench${id}`, addr });
}

function startMode(): StartMode {
  if (hasWal(settings.dir)) return { kind: 'restart' };
  return settings.bootstrap ? { kind: 'bootstrap', member: self(settings.id, settings.raftAddress) } : { kind: 'join' };
}

/** Starts to listen for the other members. */
async function listen(): Promise<void> {
  const server = new grpc.Server();
  const handlers = raftServiceHandlers({
    node: () => node,
    authorize: () => undefined,
    addressOf: () => undefined,
  });
  server.addService(raftServiceDefinition(), handlers);
  await new Promise<void>((resolve, reject) => {
    server.bindAsync(settings.raftAddress, grpc.ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    );
  });
}

function header(raft: RaftNode): {
  memberId: number;
  revision: number;
  term: number;
} {
  return {
    memberId: settings.id,
    revision: machine.revision,
    term: raft.core.term,
  };
}

function handler(raft: RaftNode): Handle {
  return (path, message, stream, answers) => {
    const refuse = (): void => answers.unavailable(stream);
    if (path === PUT_PATH) {
      raft.propose(message).then(() => answers.message(stream, encodePutResponse(header(raft))), refuse);
    } else if (path === RANGE_PATH) {
      const { key, serializable } = decodeRequest(message);
      const answer = (): void => answers.message(stream, encodeRangeResponse(header(raft), key, machine.get(key)));
      if (serializable) answer();
      else raft.readIndex().then(answer, refuse);
    } else {
      refuse();
    }
  };
}

function status(raft: RaftNode): MemberStatus {
  const { leaderId, term, role, commit, applied, voters } = raft.status();
  return { leaderId, term, role, commit, applied, voters };
}

function memory(): MemberMemory {
  globalThis.gc?.();
  globalThis.gc?.();
  const { rss, heapUsed, external } = process.memoryUsage();
  return { rssBytes: rss, heapBytes: heapUsed, externalBytes: external };
}

async function answer(raft: RaftNode, question: MemberQuestion): Promise<unknown> {
  switch (question.kind) {
    case 'status':
      return status(raft);
    case 'memory':
      return memory();
    case 'add': {
      const context = RaftMember.encode(self(question.id, question.address));
      const type = RaftConfChangeType.ConfChangeAddNode;
      return await raft.proposeConfChange(RaftConfChange.create({ type, node_id: question.id, context }));
    }
    case 'stall':
      disk.stall(question.ms);
      return null;
    case 'transfer':
      return await raft.transferLeadership(question.to);
    default:
      throw invalidArgument('unknown question');
  }
}

async function main(): Promise<void> {
  await listen();
  const began = systemClock.monotonic();
  const { electionTicks, snapshotEntries, keepEntries } = settings;
  for (const peer of settings.peers) transport.addPeer(peer.id, peer.address);
  const raft = await RaftNode.start(
    {
      ...{
        id: settings.id,
        dir: settings.dir,
        clock: systemClock,
        random: systemRandom,
        log,
        transport,
      },
      stateMachine: machine,
      ...(electionTicks === undefined ? {} : { electionTicks }),
      ...(snapshotEntries === undefined ? {} : { snapshotEntries }),
      ...(keepEntries === undefined ? {} : { keepEntries }),
      disk,
      onFatal: die,
    },
    startMode(),
  );
  const startMs = systemClock.monotonic() - began;
  node = raft;
  const [host = '', port = ''] = settings.clientAddress.split(':');
  const handle = handler(raft);
  await serveGrpc(host, Number(port), handle);
  if (settings.libraryAddress !== undefined) await serveByLibrary(settings.libraryAddress, handle);
  process.on('message', (question: MemberQuestion) => {
    answer(raft, question).then(
      (value) => process.send?.({ number: question.number, value }),
      (error: unknown) => process.send?.({ number: question.number, error: errorMessage(error) }),
    );
  });
  process.on('disconnect', () => process.exit(0));
  process.on('SIGTERM', () => process.exit(0));
  process.send?.({ ready: true, startMs, applied: raft.status().applied });
}

main().catch(die);
