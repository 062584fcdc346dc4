import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { directSpawner } from '../../base/index.ts';
import { run } from '../testing/harness.ts';
import { createExecKernel } from './exec-kernel.ts';
import { createFfiKernel } from './ffi-kernel.ts';

const RULES = `table ip t {
  chain out {
    type nat hook output priority -100
    udp dport 53 dnat ip to 10.3.0.2:54
    udp dport 55 dnat ip to 10.3.0.3:54
  }
}
table ip6 t {
  chain out {
    type nat hook output priority -100
    udp dport 53 dnat ip6 to [fd00::2]:54
    udp dport 55 dnat ip6 to [fd00::3]:54
  }
}
`;

test.each(['ffi', 'exec'])(
  'translated UDP flows are found and forgotten by target through the %s back end',
  async (name) => {
    const kernel = name === 'ffi' ? createFfiKernel() : createExecKernel(directSpawner);
    const root = mkdtempSync(join(tmpdir(), 'shoal-'));
    const namespace = join(root, 'ns');
    await kernel.createNamespace(namespace);
    try {
      await kernel.apply(namespace, [
        { kind: 'link', name: 'lo', up: true },
        ...['10.3.0.1/24', '10.3.0.2/24', '10.3.0.3/24', 'fd00::1/64', 'fd00::2/64', 'fd00::3/64'].map(
          (address) => ({ kind: 'addr', dev: 'lo', address }) as const,
        ),
      ]);
      await kernel.nft(namespace, RULES);
      // Nobody listens: the entries stand all the same.
      for (const target of ['UDP4:10.3.0.1', 'UDP6:[fd00::1]']) {
        for (const port of [53, 55]) run(namespace, 'sh', '-c', `echo x | socat -t0 - ${target}:${port}`);
      }
      const all = ['10.3.0.2', '10.3.0.3', 'fd00::2', 'fd00::3'];
      expect([...(await kernel.flowTargets(namespace))].sort()).toEqual(all);
      expect(await kernel.forgetFlows(namespace, ['10.3.0.9', 'fd00::9'])).toBe(0);
      expect(await kernel.forgetFlows(namespace, ['10.3.0.2'])).toBe(1);
      expect(await kernel.forgetFlows(namespace, ['fd00:0::2'])).toBe(1);
      expect([...(await kernel.flowTargets(namespace))].sort()).toEqual(['10.3.0.3', 'fd00::3']);
      expect(await kernel.forgetFlows(namespace, all)).toBe(2);
      expect(await kernel.flowTargets(namespace)).toEqual(new Set());
    } finally {
      kernel.removeNamespace(namespace);
      rmSync(root, { recursive: true, force: true });
    }
  },
);
