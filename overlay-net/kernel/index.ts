import { errorMessage, type Logger, type Spawner } from '../../base/index.ts';
import { createExecKernel } from './exec-kernel.ts';
import { createFfiKernel } from './ffi-kernel.ts';
import { NoSmallDescriptor } from './low-descriptors.ts';
import type { Kernel } from './ops.ts';

export * from './ops.ts';
export { isNamespace } from './namespace.ts';

/** The fastest back end that works on this host: in-process calls, or the `ip`, `bridge` and `nft` programs. */
export function createKernel(spawner: Spawner, log: Logger): Kernel {
  const programs = createExecKernel(spawner);
  try {
    const kernel = createFfiKernel();
    return {
      ...kernel,
      // In a process of its own there are small descriptors.
      nft: (namespace, text, urgent) =>
        kernel.nft(namespace, text, urgent).catch((error: unknown) => {
          if (!(error instanceof NoSmallDescriptor)) throw error;
          return programs.nft(namespace, text, urgent);
        }),
    };
  } catch (error) {
    log.warn('libnftables or FFI is missing; networks go through programs, which is slower', {
      error: errorMessage(error),
    });
    return programs;
  }
}
