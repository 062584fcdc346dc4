import { describe, expect, it } from 'vitest';
import type { ImageFacts } from '../ports.ts';
import { imageToJson } from './image.ts';

const image = {
  ...{ id: 'sha256:1', repoTags: ['a:1'], repoDigests: [], comment: '', author: '', createdMs: 1, sizeBytes: 5 },
  ...{ architecture: 'amd64', os: 'linux', variant: '', diffIds: ['sha256:2'], history: [] },
  config: { Cmd: ['sh'], Env: ['A=1'] },
} as unknown as ImageFacts;
const json = (version: string): Record<string, unknown> => imageToJson(image, version, 'overlay2', null);

describe('an image', () => {
  it('has the members that its API version has', () => {
    expect(json('1.50')['Config']).toEqual({ Cmd: ['sh'], Env: ['A=1'] });
    expect(json('1.50')).not.toHaveProperty('ContainerConfig');
    expect(json('1.49')['Config']).toMatchObject({
      Hostname: '',
      Tty: false,
      Cmd: ['sh'],
      Env: ['A=1'],
      OnBuild: null,
    });
    expect(json('1.49')).not.toHaveProperty('ContainerConfig');
    expect(json('1.44')).toMatchObject({ Container: '', ContainerConfig: { Hostname: '', Cmd: null } });
    expect(json('1.44')).not.toHaveProperty('VirtualSize');
    expect(json('1.43')).toMatchObject({ VirtualSize: 5 });
  });
});
