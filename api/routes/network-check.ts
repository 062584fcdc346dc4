import { invalidArgument } from '../../base/index.ts';
import { CheckNetworksRequest, NetworkFault_Kind, PortConfig_Protocol } from '../../proto/index.ts';
import { readJson } from '../body.ts';
import type { NetworkCheckAnswer } from '../ports.ts';
import type { RequestContext, Route } from '../router.ts';
import { Fields } from '../shapes/fields.ts';
import { sendJson } from '../stream.ts';

const KINDS = new Map<number, string>(Object.entries(NetworkFault_Kind).map(([name, value]) => [value, name]));
const PROTOCOLS: Readonly<Record<string, PortConfig_Protocol>> = {
  '': PortConfig_Protocol.TCP,
  tcp: PortConfig_Protocol.TCP,
  udp: PortConfig_Protocol.UDP,
};

type Verdict = NetworkCheckAnswer['networks'][number];

function nodeToJson(node: Verdict['nodes'][number], hostname: (id: string) => string): object {
  const { result, error } = node;
  return {
    ID: node.node_id,
    Hostname: hostname(node.node_id),
    Error: error,
    Tasks: result?.tasks ?? 0,
    TasksLeftOut: result?.tasks_left_out ?? 0,
    Names: { Asked: result?.names ?? 0, Right: result?.names_right ?? 0 },
    Entries: result?.entries ?? 0,
    Pairs: (result?.pairs ?? []).map((pair) => ({
      // Without a host: virtual addresses of services.
      Node: hostname(pair.node_id),
      Asked: pair.asked,
      Answered: pair.answered,
      RttUs: pair.rtt_us,
      Mtu: pair.mtu,
      MtuRight: pair.mtu_right,
    })),
    Faults: (result?.faults ?? []).map((fault) => ({
      Kind: (KINDS.get(fault.kind) ?? '').toLowerCase(),
      Peer: hostname(fault.peer_node_id),
      What: fault.words,
    })),
    FaultsLeftOut: result?.faults_left_out ?? 0,
  };
}

function isWhole(verdict: Verdict): boolean {
  return verdict.nodes.every(({ result }) => result !== null && result.faults.length + result.faults_left_out === 0);
}

function answerToJson(answer: NetworkCheckAnswer): object {
  const hostname = (id: string): string => answer.hostnames[id] ?? id;
  return {
    OK: answer.networks.every(isWhole),
    Networks: answer.networks.map((verdict) => ({
      ID: verdict.network_id,
      Name: verdict.name,
      OK: isWhole(verdict),
      Nodes: verdict.nodes.map((node) => nodeToJson(node, hostname)),
    })),
  };
}

async function check(context: RequestContext): Promise<void> {
  const body = new Fields(await readJson(context));
  const asked = CheckNetworksRequest.create({ network: body.string('Network') });
  sendJson(context.response, answerToJson(await context.ports.swarm.checkNetworks(asked)));
}

async function trace(context: RequestContext): Promise<void> {
  const body = new Fields(await readJson(context));
  const from = body.string('From');
  const protocol = PROTOCOLS[body.string('Protocol')];
  if (from === '') throw invalidArgument('From: the id or name of a task must be provided');
  if (protocol === undefined) throw invalidArgument('Protocol: tcp or udp can be traced');
  const asked = {
    trace_from: from,
    trace_to: body.string('To'),
    trace_port: body.number('Port'),
    trace_protocol: protocol,
  };
  const answer = await context.ports.swarm.checkNetworks(CheckNetworksRequest.create(asked));
  sendJson(context.response, {
    OK: answer.trace.every((step) => step.right),
    Steps: answer.trace.map((step) => ({
      Node: answer.hostnames[step.node_id] ?? step.node_id,
      Name: step.name,
      OK: step.right,
      What: step.words,
    })),
  });
}

/** Proofs that networks work; no counterpart in the Docker API. Nothing is changed. */
export const networkCheckRoutes: readonly Route[] = [
  { method: 'POST', path: '/shoal/network/check', handler: check },
  { method: 'POST', path: '/shoal/network/trace', handler: trace },
];
