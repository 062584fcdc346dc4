/** How the way to one peer is. */
export interface PeerStatus {
  raftId: number;
  /** Where it is sought, or was found. */
  address: string;
  connected: boolean;
  /** How long it has been as `connected` says, ms. */
  sinceMs: number;
  /** What waits to be sent. */
  queuedMessages: number;
  queuedBytes: number;
  /** Over the life of this process. Several messages make one batch, which is one gRPC message. */
  sentMessages: number;
  sentBatches: number;
  sentBytes: number;
  droppedMessages: number;
  /** Connections lost and attempts failed. */
  failures: number;
  /** Why the last connection ended or could not be made; undefined if that never happened. */
  lastError: string | undefined;
  /** A snapshot on its way there, bytes. */
  snapshot: { sentBytes: number; totalBytes: number } | undefined;
}

const MIB = 1024 * 1024;

/** Where the text of grpc-js hides what the system said. */
function plainError(error: string): string {
  const [, inner] = /Last error: (.*?)(?:\. Resolution note:.*)?$/s.exec(error) ?? [];
  const text = inner ?? error;
  if (/ECONNREFUSED/.test(text)) return 'nothing listens there (connection refused)';
  if (/EHOSTUNREACH|ENETUNREACH/.test(text)) return 'there is no route to it';
  if (/ENOTFOUND|EAI_AGAIN|Name resolution failed/.test(text)) return 'its name cannot be resolved';
  if (/ETIMEDOUT|no connection within|[Kk]eepalive|[Pp]ing timeout/.test(text)) return 'it does not answer';
  if (/ECONNRESET|EPIPE|[Cc]onnection dropped|socket hang up|GOAWAY/.test(text)) return 'the connection was reset';
  if (/certificate has expired/.test(text)) return 'its certificate has expired';
  if (/certificate|altname|CERT_/i.test(text)) return `its certificate is not accepted: ${text}`;
  return text;
}

const duration = (ms: number): string => (ms < 10_000 ? `${(ms / 1000).toFixed(1)} s` : `${Math.round(ms / 1000)} s`);

/** One sentence on the way to a manager, for people. */
export function explainPeer(status: PeerStatus): string {
  const { address, connected, sinceMs, lastError, queuedMessages, snapshot } = status;
  if (!connected) {
    const why = lastError === undefined ? 'the connection is being made' : plainError(lastError);
    return `not connected to ${address} for ${duration(sinceMs)}: ${why}`;
  }
  const parts = [`connected to ${address} for ${duration(sinceMs)}`];
  if (snapshot !== undefined) {
    const [sent, total] = [snapshot.sentBytes / MIB, snapshot.totalBytes / MIB];
    parts.push(`a snapshot is being sent (${sent.toFixed(1)} of ${total.toFixed(1)} MiB)`);
  }
  if (queuedMessages > 0) parts.push(`${queuedMessages} messages wait to be sent`);
  return parts.join('; ');
}
