// The room goes to its next task. The next connection is made beside the one that plays,
// move.js says when to go over, and this keeps both until then. client.js owns the
// connection in use, and changes it when told to.

import { Move } from "./move.js";

/** @import { Peer } from "./peer.js" */
/** @import { Roster } from "./roster.js" */
/** @import { Socket } from "./socket.js" */
/** @import { Env, Frame, Joined, Kind, Local } from "./types.js" */

/**
 * @typedef {{
 *   env: Env, socket: Socket, peer: () => Peer | null, roster: () => Roster, serves: () => boolean, epoch: () => number,
 *   revive: () => void, again: () => void, use: (next: Peer, roster: Roster, joined: Joined) => void, said: (frame: Frame) => void,
 *   failed: () => void, report: (err: unknown) => void,
 * }} Around peer, of which roster tells, is the connection in use, and serves says whether it is kept up;
 *   epoch is the room's latest; revive has a connection serve again that was given up too early; again asks
 *   for the next; use goes over; said takes what does not depend on the task; failed: the next connection came to nothing
 */

export class Handover {
  /** @type {Around} */ #call;
  /** @type {Move | null} */ #move = null; // from the connection in use to its successor at the next task; the latest
  #going = 0; // the epoch that the task in use, which is going, says comes next

  /** @param {Around} call */
  constructor(call) { this.#call = call; }

  /** Whether what plays now plays on until its successor does: the room moves. */
  get stays() {
    return this.#call.serves() && this.#going > 0 && this.#call.peer()?.connected === true;
  }

  /** The task in use is going: the next one is joined while it plays. @param {number} epoch the next one's */
  told(epoch) {
    this.#going = epoch;
    const { peer, serves, revive, again } = this.#call;
    if (!serves() && peer()?.connected && this.#call.epoch() <= epoch) revive(); // the room's word came first
    this.#call.socket.nudge();
    again();
  }

  /** The connection in use is gone, and plays nothing on. */
  forget() { this.#going = 0; }

  /** The next task has answered. @param {Peer} old @param {Peer} next @param {Joined} joined */
  begin(old, next, joined) {
    this.#move?.cancel();
    const move = (this.#move = new Move(this.#call.env, old, this.#call.roster(), next, joined, {
      go: () => {
        this.#going = 0;
        this.#call.use(next, move.roster, joined);
      },
      frame: this.#call.said,
    }));
    next.servers = joined.ice_servers ?? [];
    next.accept(joined.answer).catch((err) => {
      this.#call.report(err);
      this.lost(next);
    });
  }

  /** A connection is gone. False if that is none of this one's business. @param {Peer} peer */
  lost(peer) {
    const move = this.#move;
    if (move && peer === move.old && peer === this.#call.peer()) {
      move.go(); // whatever the new one brings
      return true;
    }
    if (peer === this.#call.peer() || !move || peer !== move.next) return false;
    move.cancel();
    this.#move = null;
    this.#call.failed(); // the old one plays: try again
    return true;
  }

  /** What came over the connection that is not in use. @param {Frame} frame @param {Peer} from */
  frame(frame, from) { this.#move?.frame(frame, from); }

  /** The sources of both connections change together. @param {Kind} kind @param {Local} next */
  attach(kind, next) {
    for (const peer of this.#move ? [this.#move.old, this.#move.next] : []) peer.attach(kind, next);
  }

  /** Tells the next task too. @param {string} reason */
  leave(reason) { this.#move?.next.send("leave", { reason }); }

  close() { this.#move?.close(); }
}
