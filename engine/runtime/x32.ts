import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { arch, tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Spawner } from '../../base/index.ts';

/** The exit code by which the trial program says that it ran; a shell that takes it for a script ends otherwise. */
const RAN = 42;
const LOAD_ADDRESS = 0x400000;
const HEADER_BYTES = 52;
const SEGMENT_BYTES = 32;
const EM_386 = 3;
const EM_X86_64 = 62;

/** mov eax, number; mov edi/ebx, RAN; enter the kernel. */
function exitCode(machine: number): number[] {
  // x32 numbers its calls as x86-64 with bit 30 set; i386 has its own, and its first argument in ebx.
  return machine === EM_X86_64
    ? [0xb8, 60, 0, 0, 0x40, 0xbf, RAN, 0, 0, 0, 0x0f, 0x05]
    : [0xb8, 1, 0, 0, 0, 0xbb, RAN, 0, 0, 0, 0xcd, 0x80];
}

/**
 * A 32-bit ELF program that exits with RAN (System V ABI, chapter 4; x32 is EM_X86_64 in a 32-bit file).
 * @param machine EM_X86_64 for x32; EM_386 makes the same program for i386, by which tests know that the form is right.
 */
export function trialProgram(machine: number = EM_X86_64): Uint8Array {
  const code = exitCode(machine);
  const size = HEADER_BYTES + SEGMENT_BYTES + code.length;
  const bytes = new Uint8Array(size);
  const view = new DataView(bytes.buffer);
  const halves = (at: number, ...values: number[]): void =>
    values.forEach((v, i) => view.setUint16(at + 2 * i, v, true));
  const words = (at: number, ...values: number[]): void =>
    values.forEach((v, i) => view.setUint32(at + 4 * i, v, true));
  // Magic, 32-bit class, little endian, version.
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  halves(16, 2, machine);
  words(20, 1, LOAD_ADDRESS + HEADER_BYTES + SEGMENT_BYTES, HEADER_BYTES, 0, 0);
  halves(40, HEADER_BYTES, SEGMENT_BYTES, 1, 0, 0, 0);
  // One loadable segment, read and execute: the whole file.
  words(HEADER_BYTES, 1, 0, LOAD_ADDRESS, LOAD_ADDRESS, size, size, 5, 0x1000);
  bytes.set(code, HEADER_BYTES + SEGMENT_BYTES);
  return bytes;
}

export const TRIAL_MACHINES = { i386: EM_386, x32: EM_X86_64 } as const;

/** Whether a program runs on this kernel: it is made, started and must exit with its own code. */
export async function runsProgram(spawner: Spawner, program: Uint8Array): Promise<boolean> {
  const directory = await mkdtemp(join(tmpdir(), 'shoal-x32-'));
  try {
    const file = join(directory, 'trial');
    await writeFile(file, program, { mode: 0o700 });
    return (await spawner.run({ file, args: [] })).code === RAN;
  } catch {
    // Exec format error: the kernel does not know such programs.
    return false;
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

/** Whether the kernel runs x32 programs (CONFIG_X86_X32_ABI); few distributions' kernels do. */
export async function runsX32(spawner: Spawner): Promise<boolean> {
  return arch() === 'x64' && (await runsProgram(spawner, trialProgram()));
}
