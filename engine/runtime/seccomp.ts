import { errorMessage, invalidArgument } from '../../base/index.ts';
import type { OciSeccomp } from './oci.ts';
import { DEFAULT_SECCOMP, type Condition, type SeccompProfile } from './seccomp-profile.ts';

export type { SeccompProfile } from './seccomp-profile.ts';

export interface SeccompHost {
  /** Node's `process.arch`. */
  arch: string;
  /** `uname -r`. */
  kernel: string;
  /**
   * Whether the kernel runs x32 programs. Where it does not, rules for them protect nothing, and building them is a third
   * of the filter's price (4 ms of processor time for each start).
   */
  x32: boolean;
}

const X32 = 'SCMP_ARCH_X32';
const ARCHITECTURES: Readonly<Record<string, { go: string; scmp: string[] }>> = {
  x64: { go: 'amd64', scmp: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', X32] },
  arm64: { go: 'arm64', scmp: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'] },
};

function kernelAtLeast(kernel: string, wanted: string): boolean {
  const [major = 0, minor = 0] = kernel.split('.').map((part) => Number.parseInt(part, 10));
  const [wantMajor = 0, wantMinor = 0] = wanted.split('.').map(Number);
  return major > wantMajor || (major === wantMajor && minor >= wantMinor);
}

/** Reads a profile text. @throws ShoalError InvalidArgument when it is not a profile. */
export function parseSeccompProfile(text: string): SeccompProfile {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    throw invalidArgument(`Decoding seccomp profile failed: ${errorMessage(error)}`);
  }
  const profile = parsed as Partial<SeccompProfile> | null;
  const sound =
    typeof profile?.defaultAction === 'string' &&
    Array.isArray(profile.syscalls) &&
    profile.syscalls.every((rule) => typeof rule?.action === 'string' && Array.isArray(rule.names));
  if (!sound) {
    throw invalidArgument('Decoding seccomp profile failed: it needs defaultAction and syscalls with names and action');
  }
  return profile as SeccompProfile;
}

/**
 * The profile that applies to a container, or undefined for none. Conditions are decided here, as the runtime knows
 * none. @param profile 'default' or 'builtin', 'unconfined', or the text of a profile.
 */
export function seccompFor(
  profile: string,
  capabilities: readonly string[],
  host: SeccompHost,
): OciSeccomp | undefined {
  if (profile === 'unconfined') return undefined;
  const chosen = ['', 'default', 'builtin'].includes(profile) ? DEFAULT_SECCOMP : parseSeccompProfile(profile);
  const architecture = ARCHITECTURES[host.arch];
  if (architecture === undefined) throw invalidArgument(`no seccomp architecture is known for ${host.arch}`);
  const holds = (condition: Condition): boolean =>
    (condition.caps ?? []).every((cap) => capabilities.includes(cap)) &&
    (condition.arches === undefined || condition.arches.includes(architecture.go)) &&
    (condition.minKernel === undefined || kernelAtLeast(host.kernel, condition.minKernel));
  const excluded = (condition: Condition | undefined): boolean =>
    (condition?.caps ?? []).some((cap) => capabilities.includes(cap)) ||
    (condition?.arches ?? []).includes(architecture.go);
  return {
    defaultAction: chosen.defaultAction,
    ...(chosen.defaultErrnoRet === undefined ? {} : { defaultErrnoRet: chosen.defaultErrnoRet }),
    architectures: architecture.scmp.filter((name) => host.x32 || name !== X32),
    syscalls: chosen.syscalls
      .filter((rule) => holds(rule.includes ?? {}) && !excluded(rule.excludes))
      .map((rule) => ({
        names: [...rule.names],
        action: rule.action,
        ...(rule.errnoRet === undefined ? {} : { errnoRet: rule.errnoRet }),
        ...(rule.args === undefined || rule.args === null || rule.args.length === 0 ? {} : { args: [...rule.args] }),
      })),
  };
}
