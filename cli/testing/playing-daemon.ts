import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A request to create a container. */
export interface Recorded {
  query: string;
  body: unknown;
}

const ID = 'a'.repeat(64);

/** Plays the daemon for clients that create containers, and keeps what they ask for. */
export class PlayingDaemon {
  readonly folder = mkdtempSync(join(tmpdir(), 'shoal-play-'));
  readonly host = `unix://${join(this.folder, 'daemon.sock')}`;
  #server: Server | undefined;
  #recorded: Recorded[] = [];

  async start(): Promise<void> {
    writeFileSync(join(this.folder, 'env'), '# comment\nFROM_FILE=1\n\n  INDENTED=x y\nSHOAL_TEST_GIVEN\nSHOAL_NONE\n');
    writeFileSync(join(this.folder, 'labels'), 'from.file=1\nbare\n# no\n');
    writeFileSync(join(this.folder, 'bad'), 'ok=1\nwith blank=2\n');
    writeFileSync(join(this.folder, 'seccomp.json'), '{\n  "defaultAction": "SCMP_ACT_ALLOW"\n}\n');
    this.#server = createServer((request, answer) => {
      answer.setHeader('Api-Version', '1.50');
      answer.setHeader('Ostype', 'linux');
      const chunks: Buffer[] = [];
      request.on('data', (chunk: Buffer) => chunks.push(chunk));
      request.on('end', () => {
        const [path = '', query = ''] = (request.url ?? '').split('?');
        if (!path.endsWith('/containers/create')) return void answer.end();
        this.#recorded.push({ query, body: JSON.parse(Buffer.concat(chunks).toString('utf8')) });
        answer.setHeader('Content-Type', 'application/json');
        answer.statusCode = 201;
        answer.end(JSON.stringify({ Id: ID, Warnings: [] }));
      });
    });
    await new Promise<void>((resolve) => this.#server?.listen(join(this.folder, 'daemon.sock'), resolve));
  }

  /** What was asked for since the last call. */
  take(): Recorded[] {
    return this.#recorded.splice(0);
  }

  /** The words of a line with the names of real files in them. */
  words(line: readonly string[]): string[] {
    return line.map((word) => word.replaceAll('FILE/', `${this.folder}/`));
  }

  stop(): void {
    this.#server?.close();
    this.#server?.closeAllConnections();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
