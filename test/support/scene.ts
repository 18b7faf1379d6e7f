/** Hosts and a scripted peer that all tests of a file share. */
import assert from 'node:assert/strict';
import { after, before } from 'node:test';
import { Hosts, type HostsOptions, type MovingGuest } from './hosts.ts';
import { PeerDriver, type DrivenConnection } from './peer-driver.ts';
import { ADDRESSES } from './topology.ts';

const FIRST_PORT = 8100;

export interface SceneOptions extends HostsOptions {
  /** What else is made ready before the first test. */
  readonly ready?: (hosts: Hosts) => Promise<void>;
}

export class Scene {
  #hosts: Hosts | undefined;
  #peer: PeerDriver | undefined;
  #ports = FIRST_PORT;

  get hosts(): Hosts {
    assert.ok(this.#hosts !== undefined, 'the hosts are up');
    return this.#hosts;
  }

  get peer(): PeerDriver {
    assert.ok(this.#peer !== undefined, 'the peer is there');
    return this.#peer;
  }

  async up({ ready, ...options }: SceneOptions): Promise<void> {
    this.#hosts = await Hosts.up(options);
    await this.#hosts.smallBuffersAtPeer();
    this.#peer = new PeerDriver(this.#hosts.topology);
    await ready?.(this.#hosts);
  }

  async down(): Promise<void> {
    await this.#hosts?.[Symbol.asyncDispose]();
  }

  /** A port of the peer that no other test has. */
  port(): number {
    return this.#ports++;
  }

  /** The peer connects to where a guest is published. */
  connect(guest: MovingGuest): Promise<DrivenConnection> {
    return this.peer.connect({ address: ADDRESSES.outside, port: guest.port });
  }

  /** The peer's kernel has counted nothing that tells of a harmed connection. */
  async noHarm(): Promise<void> {
    assert.deepEqual(await this.hosts.harm(), {});
  }
}

/** To be called at the top of a test file: hosts and peer are up during its tests. */
export function useScene(options: SceneOptions = {}): Scene {
  const scene = new Scene();
  before(() => scene.up(options));
  after(() => scene.down());
  return scene;
}
