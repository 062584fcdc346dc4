import { unavailable } from '../../base/index.ts';
import type {
  ListenSubscriptionsRequest,
  PublishLogsMessage,
  PublishLogsResponse,
  SubscribeLogsMessage,
  SubscribeLogsRequest,
  SubscriptionMessage,
} from '../../proto/index.ts';
import type { ClientStreamCall, StreamCall } from '../dispatcher/calls.ts';
import type { LeaderDuty } from '../store/types.ts';
import { LogBrokerTerm, type LogBrokerOptions } from './broker.ts';

export type { LogBrokerOptions } from './broker.ts';

/** The methods of `LogBrokerService` in camel case; see manager/dispatcher/calls.ts for the shape of calls. */
export interface LogBrokerHandlers {
  listenSubscriptions(call: StreamCall<ListenSubscriptionsRequest, SubscriptionMessage>): Promise<void>;
  publishLogs(call: ClientStreamCall<PublishLogsMessage>): Promise<PublishLogsResponse>;
}

export interface LogBroker {
  readonly duty: LeaderDuty;
  readonly handlers: LogBrokerHandlers;
  /**
   * Lines of the selected tasks, in the order in which they arrive (there is no order across nodes). Ends by itself
   * unless it follows. `options.tail`: 0 all lines, −1 none, −(n+1) the last n of each task (swarmkit.md §1.11).
   * @throws ShoalError Unavailable: not the leader, or at the end when nodes could not be reached.
   */
  subscribe(request: SubscribeLogsRequest, signal: AbortSignal): AsyncIterable<SubscribeLogsMessage>;
}

/** Brings requests for service logs to the agents and their lines to the clients. Serves while its duty runs. */
export function createLogBroker(options: LogBrokerOptions): LogBroker {
  let serving: LogBrokerTerm | undefined;
  const term = (): LogBrokerTerm => {
    if (serving === undefined) throw unavailable('this manager is not the leader; connect to another manager');
    return serving;
  };
  return {
    duty: {
      name: 'log broker',
      run: async (signal) => {
        const own = new LogBrokerTerm(options);
        serving = own;
        try {
          await own.run(signal);
        } finally {
          if (serving === own) serving = undefined;
          own.close();
        }
      },
    },
    handlers: {
      listenSubscriptions: async (call) => term().listen(call),
      publishLogs: async (call) => {
        await term().publish(call);
        return {};
      },
    },
    subscribe: (request, signal) => term().subscribe(request, signal),
  };
}
