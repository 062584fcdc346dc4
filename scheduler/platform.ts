/** Other spellings of an architecture (uname's), by the name that images use. */
const ARCHITECTURES: Readonly<Record<string, string>> = {
  x86_64: 'amd64',
  'x86-64': 'amd64',
  aarch64: 'arm64',
  i386: '386',
  i686: '386',
  armv7l: 'arm',
  armhf: 'arm',
};

/** The architecture by the name that images use. */
export function normaliseArchitecture(architecture: string): string {
  const lower = architecture.toLowerCase();
  return ARCHITECTURES[lower] ?? lower;
}

export function normaliseOs(os: string): string {
  return os.toLowerCase();
}
