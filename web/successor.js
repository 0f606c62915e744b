// The connection that comes next: made ahead of its join, so that its offer is ready when
// the room is, and thrown away when its time is over. client.js says when, and what it
// listens to.

/** @import { Timers } from "./base.js" */
/** @import { Peer } from "./peer.js" */
/** @import { Env, Kind, Local, Offer } from "./types.js" */

const PREPARED_MS = 300_000; // addresses of an older offer may be gone

/**
 * @typedef {{
 *   env: Env, timers: Timers, local: Record<Kind, Local>,
 *   make: (servers: RTCIceServer[]) => Peer, ready: () => void, failed: (err: unknown) => void,
 * }} Around make is told the relay, which the first offer may use; ready: the offer is made; failed: it cannot be
 */

export class Successor {
  /** Until it is answered. @type {Peer | null} */ peer = null;
  /** Its offer, when that is made. @type {Offer | null} */ offer = null;
  /** The relay, once a connection has found no way without it. @type {RTCIceServer[]} */ #servers = [];
  /** @type {Around} */ #call;
  #at = 0; // when the offer was begun

  /** @param {Around} call */
  constructor(call) { this.#call = call; }

  /** Whether the offer may name addresses that are gone. */
  get stale() { return this.#call.env.now() - this.#at > PREPARED_MS; }

  /** Makes the connection and its offer. */
  async prepare() {
    const { env, local, make, ready, failed } = this.#call;
    const peer = (this.peer = make(this.#servers));
    this.offer = null;
    this.#at = env.now();
    try {
      const offer = await peer.offer(local);
      if (peer === this.peer) this.offer = offer;
      ready();
    } catch (err) {
      if (peer === this.peer) failed(err);
    }
  }

  /** It was answered: it is the next one no more. */
  take() { this.peer = this.offer = null; }

  discard() {
    this.peer?.close();
    this.take();
  }

  /**
   * Has the next connection know the relay from its beginning, if this one found no way at
   * all: a browser that may use nothing else (Firefox, by policy) gives up before a restart.
   * True if that is new, and no time is to be lost. @param {Peer} peer
   */
  learn(peer) {
    if (peer.met || peer.servers.length === 0) return false;
    this.#call.timers.cancel("relay");
    const first = this.#servers.length === 0;
    this.#servers = peer.servers;
    return first;
  }
}
