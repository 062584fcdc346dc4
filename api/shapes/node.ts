import { NodeSpec, type Node, type NodeDescription } from '../../proto/index.ts';
import type { JsonObject } from '../ports.ts';
import { Fields, mapOrNothing, textOrNothing, wordOf } from './fields.ts';
import { metaToJson, resourcesToJson } from './service.ts';
import { AVAILABILITY, MEMBERSHIP, NODE_STATE, REACHABILITY, ROLE } from './words.ts';

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64');
}

function descriptionToJson(description: NodeDescription | null): JsonObject {
  if (description === null) return {};
  const { engine, platform, tls_info: tls } = description;
  return {
    Hostname: description.hostname,
    Platform: { Architecture: platform?.architecture ?? '', OS: platform?.os ?? '' },
    Resources: resourcesToJson(description.resources) ?? {},
    Engine: {
      EngineVersion: engine?.engine_version ?? '',
      Labels: mapOrNothing(engine?.labels ?? {}),
      Plugins: (engine?.plugins ?? []).map((plugin) => ({ Type: plugin.type, Name: plugin.name })),
    },
    TLSInfo:
      tls === null
        ? {}
        : {
            TrustRoot: Buffer.from(tls.trust_root).toString('utf8'),
            CertIssuerSubject: base64(tls.cert_issuer_subject),
            CertIssuerPublicKey: base64(tls.cert_issuer_public_key),
          },
  };
}

/** Docker's JSON of a node. */
export function nodeToJson(node: Node): JsonObject {
  const { spec, status, manager_status: manager } = node;
  return {
    ID: node.id,
    ...metaToJson(node.meta),
    Spec: {
      Name: textOrNothing(spec?.annotations?.name ?? ''),
      Labels: spec?.annotations?.labels ?? {},
      Role: wordOf(ROLE, spec?.desired_role ?? ROLE.worker),
      Availability: wordOf(AVAILABILITY, spec?.availability ?? AVAILABILITY.active),
    },
    Description: descriptionToJson(node.description),
    Status: {
      State: wordOf(NODE_STATE, status?.state ?? NODE_STATE.unknown),
      Message: textOrNothing(status?.message ?? ''),
      Addr: status?.addr ?? '',
    },
    ManagerStatus:
      manager === null
        ? undefined
        : {
            Leader: manager.leader || undefined,
            Reachability: wordOf(REACHABILITY, manager.reachability),
            Addr: manager.addr,
          },
  };
}

/** NodeSpec from Docker's JSON. @throws ShoalError InvalidArgument */
export function nodeSpecFromJson(body: JsonObject): NodeSpec {
  const json = new Fields(body);
  return NodeSpec.create({
    annotations: { name: json.string('Name'), labels: json.stringMap('Labels') },
    desired_role: json.choice<0 | 1>('Role', ROLE, ROLE.worker),
    availability: json.choice<0 | 1 | 2>('Availability', AVAILABILITY, AVAILABILITY.active),
    membership: MEMBERSHIP.accepted,
  });
}
