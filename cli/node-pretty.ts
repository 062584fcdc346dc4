import type { Node } from './objects.ts';
import { binarySize, goTime } from './units.ts';

const capital = (word: string): string => word.slice(0, 1).toUpperCase() + word.slice(1);

function labelLines(title: string, labels: Record<string, string> | null | undefined): string[] {
  const entries = Object.entries(labels ?? {}).toSorted(([a], [b]) => (a < b ? -1 : 1));
  if (entries.length === 0) return [];
  return [title, ...entries.map(([key, value]) => ` - ${key}${value === '' ? '' : `=${value}`}`)];
}

function pluginLines(node: Node): string[] {
  const byType = new Map<string, string[]>();
  for (const { Type, Name } of node.Description.Engine?.Plugins ?? [])
    byType.set(Type, [...(byType.get(Type) ?? []), Name]);
  if (byType.size === 0) return [];
  const types = [...byType].toSorted(([a], [b]) => (a < b ? -1 : 1));
  return ['Plugins:', ...types.map(([type, names]) => ` ${type}:\t\t${names.toSorted().join(', ')}`)];
}

function tlsLines(node: Node): string[] {
  const info = node.Description.TLSInfo;
  if (info?.TrustRoot === undefined || info.TrustRoot === '') return [];
  return [
    'TLS Info:',
    ' TrustRoot:',
    info.TrustRoot,
    ` Issuer Subject:\t${info.CertIssuerSubject ?? ''}`,
    ` Issuer Public Key:\t${info.CertIssuerPublicKey ?? ''}`,
  ];
}

/** A node for people, in the layout of `docker node inspect --pretty`. */
export function prettyNode(node: Node): string {
  const { Description: about, ManagerStatus: manager, Status: status } = node;
  const lines = [
    `ID:\t\t\t${node.ID}`,
    ...((node.Spec.Name ?? '') === '' ? [] : [`Name:\t\t\t${node.Spec.Name}`]),
    ...labelLines('Labels:', node.Spec.Labels),
    `Hostname:              \t${about.Hostname ?? ''}`,
    `Joined at:             \t${goTime(node.CreatedAt).replace(' +0000 UTC', ' +0000 utc')}`,
    'Status:',
    ` State:\t\t\t${capital(status.State)}`,
    ...((status.Message ?? '') === '' ? [] : [` Message:              \t${capital(status.Message ?? '')}`]),
    ` Availability:         \t${capital(node.Spec.Availability)}`,
    ...((status.Addr ?? '') === '' ? [] : [` Address:\t\t${status.Addr}`]),
  ];
  if (manager !== undefined) {
    lines.push(
      'Manager Status:',
      ` Address:\t\t${manager.Addr}`,
      ` Raft Status:\t\t${capital(manager.Reachability)}`,
      ` Leader:\t\t${manager.Leader === true ? 'Yes' : 'No'}`,
    );
  }
  lines.push(
    'Platform:',
    ` Operating System:\t${about.Platform?.OS ?? ''}`,
    ` Architecture:\t\t${about.Platform?.Architecture ?? ''}`,
    'Resources:',
    ` CPUs:\t\t\t${Math.trunc((about.Resources?.NanoCPUs ?? 0) / 1e9)}`,
    ` Memory:\t\t${binarySize(about.Resources?.MemoryBytes ?? 0)}`,
    ...pluginLines(node),
    `Engine Version:\t\t${about.Engine?.EngineVersion ?? ''}`,
    ...labelLines('Engine Labels:', about.Engine?.Labels),
    ...tlsLines(node),
  );
  return lines.join('\n');
}
