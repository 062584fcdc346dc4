import type { NameService } from './name-service.ts';
import type { NetworkStore, SandboxRecord } from './store.ts';

/** Gives a sandbox its container's new name, or a sandbox that links to it. @returns whether anything has changed. */
function renameIn(record: SandboxRecord, id: string, oldName: string, name: string): boolean {
  const { spec } = record;
  if (spec.id === id) {
    record.spec = { ...spec, names: [...new Set([name, ...spec.names.filter((known) => known !== oldName)])] };
    return true;
  }
  const isOld = (target: string): boolean => target.replace(/^\//, '') === oldName;
  if (!spec.endpoints.some(({ links = [] }) => links.some(({ target }) => isOld(target)))) return false;
  const endpoints = spec.endpoints.map((endpoint) => {
    if (endpoint.links === undefined) return endpoint;
    return {
      ...endpoint,
      links: endpoint.links.map((link) => (isOld(link.target) ? { ...link, target: name } : link)),
    };
  });
  record.spec = { ...spec, endpoints };
  return true;
}

/** A container has another name: what it is called, and what links to it, follow at once. */
export function renameEverywhere(
  sandboxes: Iterable<SandboxRecord>,
  renamed: { id: string; oldName: string; name: string },
  names: NameService,
  store: NetworkStore,
): void {
  for (const record of [...sandboxes]) {
    if (!renameIn(record, renamed.id, renamed.oldName, renamed.name)) continue;
    names.refresh(record);
    store.saveSandbox(record);
  }
}
