import { invalidArgument } from '../../base/index.ts';
import type { Annotations, Task } from '../../proto/index.ts';

/** Characters of a DNS label (RFC 1035 §2.3.4). */
const DNS_LABEL_MAX = 63;
/** Characters of a secret's or config's name. */
const FILE_NAME_MAX = 64;

/** Letters, digits, `-` and `_`, a letter or digit at both ends. */
const DNS_NAME = /^[a-zA-Z0-9](?:[-_a-zA-Z0-9]*[a-zA-Z0-9])?$/;
const FILE_NAME = /^[a-zA-Z0-9](?:[-_.a-zA-Z0-9]*[a-zA-Z0-9])?$/;

/** @throws ShoalError InvalidArgument unless the name can be a part of a DNS name. Returns it. */
export function validateDnsName(annotations: Annotations | null): string {
  const name = annotations?.name ?? '';
  if (name === '') throw invalidArgument('meta: name must be provided');
  if (!DNS_NAME.test(name)) throw invalidArgument('name must be valid as a DNS name component');
  if (name.length > DNS_LABEL_MAX) throw invalidArgument(`name must be ${DNS_LABEL_MAX} characters or fewer`);
  return name;
}

/** @throws ShoalError InvalidArgument unless the name can be that of a secret or config. Returns it. */
export function validateFileName(annotations: Annotations | null): string {
  const name = annotations?.name ?? '';
  if (name === '') throw invalidArgument('name must be provided');
  if (name.length > FILE_NAME_MAX || !FILE_NAME.test(name)) {
    throw invalidArgument(
      `invalid name, only ${FILE_NAME_MAX} [a-zA-Z0-9-_.] characters allowed, ` +
        'and the start and end character must be [a-zA-Z0-9]',
    );
  }
  return name;
}

/** A task's full name: its own, or `<service>.<slot, or node id>.<task id>`. */
export function taskName(task: Task): string {
  const own = task.annotations?.name ?? '';
  if (own !== '') return own;
  const place = task.slot === 0 ? task.node_id : String(task.slot);
  return `${task.service_annotations?.name ?? ''}.${place}.${task.id}`;
}
