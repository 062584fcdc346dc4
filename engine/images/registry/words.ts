import { errorMessage, ShoalError, type ErrorCode } from '../../../base/index.ts';
import { isObject, textOf } from '../image-config.ts';

/** One error of a registry's answer (OCI distribution specification, "Error Codes"). */
interface RegistryProblem {
  code: string;
  message: string;
}

/** A registry's refusal: the status and the first error of its answer. */
export class RegistryRefusal extends ShoalError {
  readonly status: number;
  readonly problem: string;

  constructor(code: ErrorCode, message: string, status: number, problem: string) {
    super(code, message);
    this.status = status;
    this.problem = problem;
  }
}

function problemOf(body: string): RegistryProblem | undefined {
  try {
    const json: unknown = JSON.parse(body);
    const first: unknown = isObject(json) && Array.isArray(json['errors']) ? json['errors'][0] : undefined;
    if (!isObject(first)) return undefined;
    return { code: textOf(first['code']), message: textOf(first['message']) };
  } catch {
    return undefined;
  }
}

function codeOf(status: number): ErrorCode {
  if (status === 404) return 'NotFound';
  if (status === 401) return 'Unauthenticated';
  if (status === 403) return 'PermissionDenied';
  if (status === 429) return 'ResourceExhausted';
  if (status >= 500) return 'Unavailable';
  return 'Unknown';
}

/** The error of a response that is no success, in the form "code words: message" that Docker's client library uses. */
export function refusal(url: URL, status: number, body: string): RegistryRefusal {
  const problem = problemOf(body);
  if (problem === undefined || problem.code === '') {
    const text = `received unexpected HTTP status: ${status} from ${url.origin}${url.pathname}`;
    return new RegistryRefusal(codeOf(status), text, status, '');
  }
  const words = problem.code.toLowerCase().replaceAll('_', ' ');
  return new RegistryRefusal(codeOf(status), `${words}: ${problem.message}`, status, problem.code);
}

/** A refusal of a pull in the words of `docker pull`. */
export function pullError(error: unknown, familiar: string, repository: string): unknown {
  if (!(error instanceof RegistryRefusal)) return error;
  const denied =
    `pull access denied for ${repository}, repository does not exist or may require 'docker login': ` + error.message;
  if (error.problem === 'DENIED' || error.problem === 'UNAUTHORIZED') return new ShoalError('NotFound', denied);
  if (error.problem === 'NAME_UNKNOWN') {
    return new ShoalError('NotFound', `repository ${repository} not found: ${error.message}`);
  }
  if (error.problem === 'MANIFEST_UNKNOWN' || (error.status === 404 && error.problem === '')) {
    return new ShoalError('NotFound', `manifest for ${familiar} not found: ${error.message}`);
  }
  return error;
}

/** A failed connection in the words of Go's client, which Docker's users know. */
export function connectionError(method: string, url: URL, error: unknown): ShoalError {
  const first: unknown = error instanceof AggregateError ? error.errors[0] : error;
  const { code, address, port } = (first ?? {}) as { code?: string; address?: string; port?: number };
  const verb = method.charAt(0) + method.slice(1).toLowerCase();
  const start = `${verb} "${url.origin}${url.pathname}"`;
  const peer = address === undefined ? url.host : `${address.includes(':') ? `[${address}]` : address}:${port ?? ''}`;
  const words = ((): string => {
    switch (code) {
      case 'ENOTFOUND':
        return `dial tcp: lookup ${url.hostname}: no such host`;
      case 'EAI_AGAIN':
        return `dial tcp: lookup ${url.hostname}: temporary failure in name resolution`;
      case 'ELOOKUPTIMEOUT':
        return `dial tcp: lookup ${url.hostname}: i/o timeout`;
      case 'ECONNREFUSED':
        return `dial tcp ${peer}: connect: connection refused`;
      case 'EHOSTUNREACH':
        return `dial tcp ${peer}: connect: no route to host`;
      case 'ENETUNREACH':
        return `dial tcp ${peer}: connect: network is unreachable`;
      case 'ETIMEDOUT':
        return `dial tcp ${peer}: i/o timeout`;
      case 'ECONNRESET':
        return `read tcp ${peer}: connection reset by peer`;
      case 'SELF_SIGNED_CERT_IN_CHAIN':
      case 'DEPTH_ZERO_SELF_SIGNED_CERT':
      case 'UNABLE_TO_VERIFY_LEAF_SIGNATURE':
      case 'UNABLE_TO_GET_ISSUER_CERT_LOCALLY':
        return 'tls: failed to verify certificate: x509: certificate signed by unknown authority';
      case 'CERT_HAS_EXPIRED':
        return 'tls: failed to verify certificate: x509: certificate has expired or is not yet valid';
      case 'EPROTO':
        return 'http: server gave HTTP response to HTTPS client';
      case undefined:
      default:
        return errorMessage(first);
    }
  })();
  return new ShoalError('Unavailable', `${start}: ${words}`, { cause: error });
}
