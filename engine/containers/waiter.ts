export type WaitCondition = 'not-running' | 'next-exit' | 'removed';

export interface ExitStatus {
  exitCode: number;
  error?: string;
}

/** Someone who waits for a container. */
export interface Waiter {
  condition: WaitCondition;
  resolve: (status: ExitStatus) => void;
}
