// What a connection offers after its first offer: more seats, another path when the one
// in use has gone silent, the room's relay when no direct path came up. And the question
// that comes before: whether it is the path or the room that is silent. client.js has the
// connection and says when; the WebSocket and the data channel carry the offers.

import { fits } from "./joining.js";
import { LOOK_MS } from "./pulse.js";
import { relayIn } from "./ways.js";

/** @import { Peer } from "./peer.js" */
/** @import { Socket } from "./socket.js" */
/** @import { Timers } from "./base.js" */
/** @import { Answer, Env, Kind, Local, Offer } from "./types.js" */

const AGAIN_MS = 1000; // from one offer to restart ICE to the next

/**
 * @typedef {{
 *   env: Env, timers: Timers, socket: Socket, local: Record<Kind, Local>,
 *   peer: () => Peer | null, serves: () => boolean, report: (err: unknown) => void,
 * }} Around peer is the connection in use; serves says whether it is kept up
 */

export class Renegotiation {
  /** @type {Around} */ #call;
  /** @type {Peer | null} */ #asked = null; // has offered something, and waits for the answer
  /** @type {Offer | null} */ #again = null; // an ICE restart, until it is answered
  #againAt = 0; // when it was made
  /** @type {Peer | null} */ #moved = null; // is looked for anew when a WebSocket has shown that there is another network: addresses are gathered with the offer
  #upAt = 0; // when the WebSocket came up, or another took over
  #doubtedAt = 0; // since when it is asked whether the room can be reached at all; 0 = nothing speaks against it

  /** @param {Around} call */
  constructor(call) { this.#call = call; }

  /** Whether even the WebSocket brings nothing since it was asked. */
  get alone() { return this.#doubtedAt > 0 && this.#call.socket.heardAt < this.#doubtedAt; }

  /** Offers as many seats as n, if the connection has fewer. @param {number} n */
  async grow(n) {
    const peer = this.#call.peer();
    if (!peer?.open || this.#asked === peer || peer.seats.size >= n) return;
    this.#asked = peer;
    try {
      peer.send("offer", await peer.offer(this.#call.local, n));
    } catch (err) {
      this.#asked = null;
      this.#call.report(err);
    }
  }

  /**
   * Brings in the room's relay, if no direct way has come up in time.
   * @param {Peer} peer @param {RTCIceServer[]} servers @param {number} askedMs from the join to its answer
   */
  relay(peer, servers, askedMs) {
    peer.servers = servers;
    const wait = relayIn(servers.length, askedMs);
    if (wait === null) return;
    this.#call.timers.after("relay", wait, async () => {
      if (peer.reached) return;
      const offer = await this.#restarted(peer);
      if (offer && fits(offer)) this.#call.socket.send("offer", offer);
    });
  }

  /**
   * Looks for another path for what flows, over whatever still reaches the room. While nothing
   * does there is no network to look in: Firefox would find no candidate, fail, and lose its
   * data channel by that, though the old path may be back in a moment.
   * @param {Peer} peer
   */
  async restart(peer) {
    if (!this.#call.serves()) return;
    if (this.alone) {
      this.#call.timers.after("restart", LOOK_MS, () => void (peer === this.#call.peer() && peer.quiet && this.restart(peer)));
      return;
    }
    if (peer.flows) { // the browser gives up a path that is not silent when its network has gone
      this.#moved = peer;
      return this.#ask(true);
    }
    this.#ask(false);
    if (this.#call.env.now() - this.#againAt < AGAIN_MS) return; // one is under way
    await this.#begin(peer);
  }

  /** @param {Peer} peer */
  async #begin(peer) {
    this.#againAt = this.#call.env.now();
    const offer = await this.#restarted(peer);
    if (!offer) return;
    this.#again = offer;
    this.#send(offer);
  }

  /** An offer that restarts ICE; null if that cannot be, or matters no more. @param {Peer} peer @returns {Promise<Offer | null>} */
  async #restarted(peer) {
    if (peer !== this.#call.peer()) return null;
    try {
      const offer = await peer.restart(this.#call.local);
      if (peer !== this.#call.peer()) return null;
      this.#asked = peer;
      return offer;
    } catch (err) {
      this.#call.report(err);
      return null;
    }
  }

  /** Nothing comes: does the WebSocket still live? If it is a new one, the one before did not. @param {Peer} [peer] */
  doubt(peer) {
    if (!this.#call.peer()) return;
    if (peer && this.#call.env.now() - this.#upAt < AGAIN_MS) return void this.restart(peer);
    this.#ask(false);
  }

  /** @param {boolean} moved whether the network is another one, for all that is known */
  #ask(moved) {
    this.#doubtedAt ||= this.#call.env.now();
    this.#call.socket.check(moved);
  }

  /** Media comes again. */
  heard() {
    this.#doubtedAt = 0;
    this.#moved = null;
    this.#call.socket.calm();
  }

  /** The WebSocket is up: an offer may wait for its answer, or both had died with a network. */
  up() {
    const peer = this.#call.peer();
    const moved = this.#moved;
    this.#moved = null;
    if (peer && moved === peer) this.#begin(peer);
    else if (this.#again) this.#repair(peer);
    else if (peer?.quiet) this.restart(peer);
    this.#upAt = this.#call.env.now();
  }

  /** An offer that was made a while ago knows of the addresses of then alone. @param {Peer | null} peer */
  #repair(peer) {
    if (!this.#again) return;
    if (!peer || this.#again.generation !== peer.generation) this.#again = null;
    else if (this.#call.env.now() - this.#againAt >= AGAIN_MS && this.#doubtedAt > 0) this.restart(peer);
    else this.#send(this.#again);
  }

  /**
   * Sends an offer over the WebSocket, or if it is too large over the data channel, in case
   * that gets through. Nothing else is sent there meanwhile: where the network has gone,
   * Firefox takes one packet that cannot be sent for the end of DTLS, and of the connection.
   * @param {Offer} offer
   */
  #send(offer) {
    if (fits(offer)) return void this.#call.socket.send("offer", offer);
    this.#again = null;
    this.#call.peer()?.send("offer", offer);
  }

  /** Takes an answer; true if it was asked for, and applied. @param {Answer} answer @returns {Promise<boolean>} */
  async answered(answer) {
    const peer = this.#call.peer();
    if (!peer || this.#asked !== peer || answer.generation !== peer.generation) return false;
    this.#asked = this.#again = null;
    try {
      await peer.accept(answer);
      return true;
    } catch (err) {
      this.#call.report(err);
      return false;
    }
  }
}
