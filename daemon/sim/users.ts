import { isShoalError, type SeededRandom } from '../../base/index.ts';
import {
  CreateNetworkRequest,
  CreateSecretRequest,
  CreateServiceRequest,
  PromoteServiceRequest,
  RebalanceServiceRequest,
  RunServiceRequest,
  Node,
  NodeRole,
  NodeSpec,
  NodeSpec_Availability,
  NodeSpec_Membership,
  NodeStatus_State,
  RemoveNetworkRequest,
  RemoveNodeRequest,
  RemoveSecretRequest,
  RemoveServiceRequest,
  UpdateNodeRequest,
  UpdateServiceRequest,
  UpdateServiceRequest_Rollback,
} from '../../proto/index.ts';
import type { Control } from '../../manager/sim/index.ts';
import type { ReadView } from '../../manager/index.ts';
import type { SimManager } from '../../manager/sim/index.ts';
import { around } from './image.ts';
import { changeService, drawService, isHopeless, pick } from './specs.ts';
import type { WorkerHost } from './worker-host.ts';
import type { World } from './world.ts';

const SECRETS_MAX = 3;
const NETWORKS_MAX = 3;

type Act = (control: Control, view: ReadView) => Promise<unknown> | undefined;

/** Users of the cluster, and its operator: they change services, networks, secrets and nodes, and ask for nothing back. */
export class Users {
  readonly #world: World;
  readonly #random: SeededRandom;
  /** They ask for nothing new. */
  idle = true;
  #names = 0;
  readonly counts = { asked: 0, done: 0, refused: 0 };

  constructor(world: World, random: SeededRandom) {
    this.#world = world;
    this.#random = random;
    this.#next();
  }

  #next(): void {
    const world = this.#world;
    world.scheduler.after(around(this.#random, world.profile.userMs), () => {
      if (!this.idle) this.#ask(pick(this.#random, ACTS));
      this.#next();
    });
  }

  #ask(kind: (typeof ACTS)[number]): void {
    const act = this.#act(kind);
    this.do(kind, (manager) => act(manager.control, manager.store.view()));
  }

  /** Lets the leader, if there is one, do something; what it refuses is a user's mistake or the hour's trouble. */
  do(what: string, run: (manager: SimManager) => Promise<unknown> | undefined): void {
    const leader = this.#world.leader()?.run;
    if (leader === undefined) return;
    leader.process.run(() => {
      const doing = run(leader.manager);
      if (doing === undefined) return;
      this.counts.asked++;
      this.#world.journal.count(`user: ${what}`);
      doing.then(
        () => {
          this.counts.done++;
        },
        (error: unknown) => {
          this.counts.refused++;
          if (!isShoalError(error)) this.#world.fail(error);
        },
      );
    });
  }

  #act(kind: (typeof ACTS)[number]): Act {
    switch (kind) {
      case 'create service':
        return (control, view) => this.#create(control, view);
      case 'update service':
        return (control, view) => this.#update(control, view);
      case 'repair service':
        return (control, view) => this.#repair(control, view);
      case 'roll back':
        return (control, view) => this.#rollBack(control, view);
      case 'remove service':
        return (control, view) => {
          const service = this.#one(view, 'service');
          if (service === undefined || this.#random.int(3) > 0) return undefined;
          return control.RemoveService(RemoveServiceRequest.create({ service_id: service.id }));
        };
      case 'promote':
        return (control, view) => {
          const waiting = view.list('service').find((service) => service.canary !== null);
          return waiting && control.PromoteService(PromoteServiceRequest.create({ service_id: waiting.id }));
        };
      case 'rebalance':
        return (control, view) => {
          const service = this.#one(view, 'service');
          return service && control.RebalanceService(RebalanceServiceRequest.create({ service_id: service.id }));
        };
      case 'run job':
        return (control, view) => {
          const job = view.list('service').find(({ spec }) => spec?.replicated_job !== undefined);
          return job && control.RunService(RunServiceRequest.create({ service_id: job.id }));
        };
      case 'networks':
        return (control, view) => this.#networks(control, view);
      case 'secrets':
        return (control, view) => this.#secrets(control, view);
      case 'node availability':
        return (control, view) => this.#availability(control, view);
      case 'node labels':
        return (control, view) => this.#labels(control, view);
    }
  }

  #one<K extends 'service' | 'network' | 'secret' | 'node'>(view: ReadView, kind: K) {
    const all = view.list(kind).toSorted((a, b) => (a.id < b.id ? -1 : 1));
    return all.length === 0 ? undefined : pick(this.#random, all);
  }

  #name(kind: string): string {
    return `${kind}-${++this.#names}`;
  }

  #create(control: Control, view: ReadView): Promise<unknown> | undefined {
    if (view.list('service').length >= this.#world.profile.services) return undefined;
    const spec = drawService(this.#random, this.#name('app'), view);
    return control.CreateService(CreateServiceRequest.create({ spec }));
  }

  #update(control: Control, view: ReadView): Promise<unknown> | undefined {
    const service = this.#one(view, 'service');
    if (service?.spec === undefined || service.spec === null) return undefined;
    const spec = changeService(this.#random, service.spec, view);
    const service_version = service.meta?.version ?? null;
    return control.UpdateService(UpdateServiceRequest.create({ service_id: service.id, service_version, spec }));
  }

  /** Releases that do not work are taken back, most of the time. */
  #repair(control: Control, view: ReadView): Promise<unknown> | undefined {
    const hopeless = view.list('service').filter((service) => isHopeless(service.spec));
    const service = hopeless.toSorted((a, b) => (a.id < b.id ? -1 : 1))[0];
    if (service?.spec?.task?.container === undefined) return undefined;
    const container = { ...service.spec.task.container, image: `web:${this.#random.int(1000)}` };
    const spec = { ...service.spec, task: { ...service.spec.task, container } };
    const service_version = service.meta?.version ?? null;
    return control.UpdateService(UpdateServiceRequest.create({ service_id: service.id, service_version, spec }));
  }

  #rollBack(control: Control, view: ReadView): Promise<unknown> | undefined {
    const service = this.#one(view, 'service');
    if (service === undefined || service.previous_spec === null) return undefined;
    const rollback = UpdateServiceRequest_Rollback.PREVIOUS;
    const { spec } = service;
    const service_version = service.meta?.version ?? null;
    const service_id = service.id;
    return control.UpdateService(UpdateServiceRequest.create({ service_id, service_version, spec, rollback }));
  }

  #networks(control: Control, view: ReadView): Promise<unknown> | undefined {
    const own = view.list('network').filter((network) => network.spec?.ingress !== true);
    if (own.length < NETWORKS_MAX) {
      // Small ones run out of addresses.
      const small = this.#random.int(3) === 0;
      const subnet = `192.168.${this.#names % 200}.0/28`;
      const ipam = { driver: { name: 'default' }, configs: small ? [{ subnet }] : [] };
      const spec = { annotations: { name: this.#name('net') }, driver_config: { name: 'overlay' }, ipam };
      return control.CreateNetwork(CreateNetworkRequest.create({ spec }));
    }
    const network = this.#one(view, 'network');
    return network && control.RemoveNetwork(RemoveNetworkRequest.create({ network_id: network.id }));
  }

  #secrets(control: Control, view: ReadView): Promise<unknown> | undefined {
    if (view.list('secret').length < SECRETS_MAX) {
      const spec = { annotations: { name: this.#name('secret') }, data: Buffer.from('quiet') };
      return control.CreateSecret(CreateSecretRequest.create({ spec }));
    }
    const secret = this.#one(view, 'secret');
    return secret && control.RemoveSecret(RemoveSecretRequest.create({ secret_id: secret.id }));
  }

  #updateNode(control: Control, node: Node, spec: Partial<NodeSpec>): Promise<unknown> {
    const node_version = node.meta?.version ?? null;
    const whole = NodeSpec.create({ ...node.spec, ...spec });
    return control.UpdateNode(UpdateNodeRequest.create({ node_id: node.id, node_version, spec: whole }));
  }

  #availability(control: Control, view: ReadView): Promise<unknown> | undefined {
    const node = this.#one(view, 'node');
    if (node === undefined) return undefined;
    const { ACTIVE, PAUSE, DRAIN } = NodeSpec_Availability;
    // Most nodes are active most of the time.
    const away = view.list('node').filter((one) => one.spec?.availability !== ACTIVE).length;
    const isActive = node.spec?.availability === ACTIVE;
    if (isActive && away * 3 > view.list('node').length) return undefined;
    return this.#updateNode(control, node, {
      availability: isActive ? pick(this.#random, [DRAIN, DRAIN, PAUSE]) : ACTIVE,
    });
  }

  #labels(control: Control, view: ReadView): Promise<unknown> | undefined {
    const node = this.#one(view, 'node');
    if (node === undefined) return undefined;
    const labels = { rack: `rack-${this.#random.int(3)}` };
    const annotations = { name: '', indices: [], ...node.spec?.annotations, labels };
    return this.#updateNode(control, node, { annotations });
  }

  /** A worker shows a join token: the leader's authority makes its node. */
  admit(worker: WorkerHost): void {
    this.do('node joins', (manager) =>
      manager.store.update((tx) => {
        if (tx.get('node', worker.nodeId) !== undefined) return;
        const membership = NodeSpec_Membership.ACCEPTED;
        const spec = { annotations: {}, desired_role: NodeRole.WORKER, membership };
        const status = { state: NodeStatus_State.UNKNOWN };
        tx.create('node', Node.create({ id: worker.nodeId, spec, role: NodeRole.WORKER, status }));
      }),
    );
  }

  /** `docker node rm`. */
  remove(worker: WorkerHost, force: boolean): void {
    this.do('node removed', ({ control }) => {
      return control.RemoveNode(RemoveNodeRequest.create({ node_id: worker.nodeId, force }));
    });
  }
}

const ACTS = [
  'create service',
  'create service',
  'create service',
  'update service',
  'update service',
  'update service',
  'update service',
  'repair service',
  'repair service',
  'roll back',
  'promote',
  'rebalance',
  'run job',
  'remove service',
  'networks',
  'secrets',
  'node availability',
  'node labels',
] as const;
