import { ZERO_TIME } from '../../proto/index.ts';
import type { ImageFacts, JsonObject } from '../ports.ts';
import { olderThan } from '../versions.ts';

const time = (ms: number): string => (ms === 0 ? ZERO_TIME : new Date(ms).toISOString());

/** Clients of old versions want the sum of all layers under a second name. */
function virtualSize(image: ImageFacts, version: string): JsonObject {
  return olderThan(version, '1.44') ? { VirtualSize: image.sizeBytes } : {};
}

/** The configuration of a container, with which images shared their type before version 1.50 of the API. */
const WHOLE_CONFIG: JsonObject = {
  ...{ Hostname: '', Domainname: '', User: '', AttachStdin: false, AttachStdout: false, AttachStderr: false },
  ...{ Tty: false, OpenStdin: false, StdinOnce: false, Env: null, Cmd: null, Image: '', Volumes: null },
  ...{ WorkingDir: '', Entrypoint: null, OnBuild: null, Labels: null },
};

/** What older versions of the API had of the container that an image was made from; there is none here. */
function olderMembers(image: ImageFacts, version: string): JsonObject {
  const made = olderThan(version, '1.45') ? { Container: '', ContainerConfig: WHOLE_CONFIG } : {};
  return olderThan(version, '1.50') ? { ...made, Config: { ...WHOLE_CONFIG, ...image.config } } : made;
}

export interface ImageCounts {
  /** Containers made from it; -1 when nobody asked. */
  containers: number;
  /** Bytes it shares with other images; -1 when nobody asked. */
  sharedBytes: number;
}

const NOT_COUNTED: ImageCounts = { containers: -1, sharedBytes: -1 };

/** One line of GET /images/json. */
export function imageSummary(image: ImageFacts, version: string, counts = NOT_COUNTED): JsonObject {
  const nameless = image.repoTags.length === 0 && image.repoDigests.length === 0 && olderThan(version, '1.43');
  return {
    Containers: counts.containers,
    Created: Math.floor(image.createdMs / 1000),
    Id: image.id,
    Labels: (image.config as { Labels?: object | null }).Labels ?? null,
    ParentId: image.parentId ?? '',
    RepoDigests: nameless ? ['<none>@<none>'] : image.repoDigests,
    RepoTags: nameless ? ['<none>:<none>'] : image.repoTags,
    SharedSize: counts.sharedBytes,
    Size: image.sizeBytes,
    ...virtualSize(image, version),
  };
}

/** GET /images/{name}/json. @param graph directories of its layers, as the storage driver names them */
export function imageToJson(image: ImageFacts, version: string, driver: string, graph: object | null): JsonObject {
  return {
    Id: image.id,
    RepoTags: image.repoTags,
    RepoDigests: image.repoDigests,
    Parent: image.parentId ?? '',
    Comment: image.comment,
    Created: time(image.createdMs),
    DockerVersion: '',
    Author: image.author,
    Config: image.config,
    Architecture: image.architecture,
    Variant: image.variant || undefined,
    Os: image.os,
    Size: image.sizeBytes,
    ...virtualSize(image, version),
    ...olderMembers(image, version),
    GraphDriver: { Name: driver, Data: graph },
    RootFS: { Type: 'layers', Layers: image.diffIds.length === 0 ? undefined : image.diffIds },
    Metadata: { LastTagTime: time(image.taggedMs ?? 0) },
  };
}

/**
 * GET /images/{name}/history, newest first. An entry that made a layer has its size; ids are those of the image and of
 * its parents here.
 * @param parents the image and those below it, newest first
 */
export function historyToJson(image: ImageFacts, parents: readonly ImageFacts[]): JsonObject[] {
  const sizes = (image.layers ?? []).map(({ sizeBytes }) => sizeBytes);
  let layer = 0;
  const lines = image.history.map((entry) => {
    // A history that tells of more layers than there are is not to be trusted with the rest.
    const size = entry.empty_layer === true ? 0 : (sizes[layer++] ?? 0);
    return {
      Id: '<missing>',
      Created: Math.floor(Date.parse(entry.created ?? '') / 1000) || 0,
      CreatedBy: entry.created_by ?? '',
      Tags: null as string[] | null,
      Size: size,
      Comment: entry.comment ?? '',
    };
  });
  lines.reverse();
  for (const [i, parent] of parents.entries()) {
    const line = lines[i];
    if (line === undefined) break;
    Object.assign(line, { Id: parent.id, Tags: parent.repoTags.length === 0 ? null : parent.repoTags });
  }
  return lines;
}
