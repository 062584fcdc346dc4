import { Client, Metadata } from '@grpc/grpc-js';
import { systemClock, ShoalError } from '../../base/index.ts';
import { certificateIdentity, channelOptions, fromServiceError, type TlsIdentity } from '../../identity/index.ts';
import { grpcMethod, HealthCheckRequest, HealthCheckResponse_ServingStatus, HealthService } from '../../proto/index.ts';

/** Time for a manager to answer the leader's check, ms. */
const DIAL_BACK_TIMEOUT_MS = 5_000;
/** Name of the role that `Health` is asked for. */
export const HEALTH_RAFT = 'Raft';

/**
 * Checks that the manager `nodeId`, and no other, serves at an address: it would only weaken the quorum if it could not
 * be reached from here. @throws ShoalError Unavailable, FailedPrecondition when another node answers.
 */
export function dialBack(tls: TlsIdentity, addr: string, nodeId: string, signal: AbortSignal): Promise<void> {
  const client = new Client(addr, tls.channelCredentials(), channelOptions());
  const { path, requestSerialize, responseDeserialize } = grpcMethod(HealthService.Check);
  const check = new Promise<void>((resolve, reject) => {
    const onAbort = (): void => call.cancel();
    const call = client.makeUnaryRequest(
      path,
      requestSerialize,
      responseDeserialize,
      HealthCheckRequest.create({ service: HEALTH_RAFT }),
      new Metadata(),
      { deadline: systemClock.now() + DIAL_BACK_TIMEOUT_MS },
      (error, response) => {
        signal.removeEventListener('abort', onAbort);
        const answers = certificateIdentity(call.getAuthContext()?.sslPeerCertificate?.raw)?.nodeId;
        if (error !== null) reject(fromServiceError(error));
        else if (response?.status !== HealthCheckResponse_ServingStatus.SERVING) {
          reject(new ShoalError('Unavailable', 'it is not serving'));
        } else if (answers !== nodeId) {
          reject(new ShoalError('FailedPrecondition', `node ${answers ?? '(unknown)'} answers there, not ${nodeId}`));
        } else resolve();
      },
    );
    signal.addEventListener('abort', onAbort, { once: true });
  });
  return check.finally(() => client.close());
}
