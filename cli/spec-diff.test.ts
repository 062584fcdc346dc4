import { describe, expect, it } from 'vitest';
import { changedFields, diffLines, shortened, specLines } from './spec-diff.ts';

const spec = (image: string, more: object = {}): object => ({
  Name: 'web',
  Labels: {},
  TaskTemplate: {
    ContainerSpec: { Image: image, Env: ['A=1', 'B=two words'], Mounts: [{ Type: 'bind', Target: '/x' }] },
    Resources: {},
    ForceUpdate: 0,
  },
  Mode: { Replicated: { Replicas: 3 } },
  ...more,
});

describe('a spec as text', () => {
  it('is indented like YAML and leaves out what is empty', () => {
    expect(specLines(spec('nginx:1.27@sha256:abc', { Labels: { 'a: b': 'x: y', tail: 'c:' } }))).toEqual([
      'Name: web',
      'Labels:',
      '  a: b: "x: y"'.replace('"x: y"', 'x: y'),
      '  tail: "c:"',
      'TaskTemplate:',
      '  ContainerSpec:',
      '    Image: nginx:1.27@sha256:abc',
      '    Env:',
      '      - A=1',
      '      - B=two words',
      '    Mounts:',
      '      - Type: bind',
      '        Target: /x',
      '  ForceUpdate: 0',
      'Mode:',
      '  Replicated:',
      '    Replicas: 3',
    ]);
  });
});

describe('a difference', () => {
  it('is shown with its surroundings', () => {
    const lines = shortened(diffLines(specLines(spec('a:1')), specLines(spec('a:2'))));
    expect(lines.map(([sign, text]) => sign + text)).toEqual([
      ' Name: web',
      ' TaskTemplate:',
      '   ContainerSpec:',
      '-    Image: a:1',
      '+    Image: a:2',
      '     Env:',
      '       - A=1',
      '       - B=two words',
    ]);
  });

  it('is nothing between equal specs', () => {
    expect(shortened(diffLines(specLines(spec('a')), specLines(spec('a'))))).toEqual([]);
    expect(changedFields(spec('a'), spec('a'))).toBe('');
  });

  it('is told in short by the names of what changed', () => {
    expect(changedFields(spec('a'), spec('b'))).toBe('Image');
    const other = spec('b', { Mode: { Replicated: { Replicas: 5 } }, Labels: { 'shoal.update.canary': '1', x: 'y' } });
    expect(changedFields(spec('a'), other)).toBe('Image, Replicas 3→5, Labels shoal.update.canary, 1 more');
  });

  it('leads from one text to the other', () => {
    const texts = [[], ['a'], ['a', 'b', 'c'], ['b', 'x', 'c'], ['c', 'b', 'a']];
    for (const before of texts) {
      for (const after of texts) {
        const lines = diffLines(before, after);
        expect(lines.filter(([sign]) => sign !== '+').map(([, text]) => text)).toEqual(before);
        expect(lines.filter(([sign]) => sign !== '-').map(([, text]) => text)).toEqual(after);
      }
    }
  });
});
