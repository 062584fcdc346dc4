import type { Client } from '@grpc/grpc-js';
import { must, retry, systemClock, systemRandom } from '../../base/index.ts';
import { callUnary, createCsr } from '../../identity/index.ts';
import {
  IssueNodeCertificateRequest,
  NodeCAService,
  NodeCertificateStatusRequest,
  type IssueNodeCertificateResponse,
} from '../../proto/index.ts';
import type { AgentIdentity } from './agent.ts';

const CALL = { timeoutMs: 20_000 };
/** A joining node asks again when the leader changes; the former try may leave a node that never comes. */
const RETRY = { attempts: 5, baseMs: 500, capMs: 2000, clock: systemClock, random: systemRandom };

/** Becomes a node through the NodeCA service, as `shoal swarm join` does; all agents share one anonymous connection. */
export async function joinAsNode(client: Client, order: { token: string; rootCa: string }): Promise<AgentIdentity> {
  const { csr, key } = createCsr();
  const request = IssueNodeCertificateRequest.create({ csr: Buffer.from(csr), token: order.token });
  const ask = (): Promise<IssueNodeCertificateResponse> =>
    callUnary(client, NodeCAService.IssueNodeCertificate, request, CALL);
  const { node_id: nodeId } = await retry(ask, RETRY);
  const status = NodeCertificateStatusRequest.create({ node_id: nodeId });
  const { certificate } = await callUnary(client, NodeCAService.NodeCertificateStatus, status, CALL);
  const cert = Buffer.from(must(certificate, `certificate of ${nodeId}`).certificate).toString();
  return { nodeId, cert, key, rootCa: order.rootCa };
}
