import { describe, expect, it } from 'vitest';
import { withoutAddresses, withPublishAddresses } from './service-publish.ts';
import { parsePorts } from './service-values.ts';

const LABEL = 'shoal.publish.ip';
const ports = (...values: string[]): ReturnType<typeof parsePorts> => values.flatMap(parsePorts);

describe('ports bound to an address', () => {
  it('become a label; the API gets them without', () => {
    const given = ports('published=80,target=8080,ip=192.0.2.1', 'published=53,target=53,protocol=udp,ip=::1', '81:81');
    const labels = withPublishAddresses({ a: 'b' }, given, given);
    expect(labels).toEqual({ a: 'b', [LABEL]: '80/tcp=192.0.2.1,53/udp=::1' });
    expect(withoutAddresses(given).some((port) => 'HostIP' in port)).toBe(false);
  });

  it('follow updates, and leave an address for all ports as it is', () => {
    const before = { [LABEL]: '192.0.2.9,80=192.0.2.1,81/tcp=192.0.2.2' };
    const kept = ports('80:80', '82:82');
    const bound = ports('published=82,target=82,ip=192.0.2.3');
    const after = withPublishAddresses(before, bound, kept);
    expect(after).toEqual({ [LABEL]: '192.0.2.9,80/tcp=192.0.2.1,82/tcp=192.0.2.3' });
    expect(withPublishAddresses(after, kept, kept)).toEqual({ [LABEL]: '192.0.2.9' });
    expect(withPublishAddresses({ [LABEL]: '80=::1' }, kept, kept)).toEqual({});
    expect(withPublishAddresses({ [LABEL]: '::1' }, [], [])).toEqual({ [LABEL]: '::1' });
  });

  it('need a number', () => {
    const given = ports('target=80,ip=192.0.2.1');
    expect(() => withPublishAddresses({}, given, given)).toThrow('ip= needs a published port');
  });
});
