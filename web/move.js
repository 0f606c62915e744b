// A room moves to its next task: the connection to the new one is up, or will be, and
// the old one still plays. This decides when to go over, and takes what both say until
// then. handover.js makes one for each move, and goes over when told to.

import { Roster } from "./roster.js";

/** @import { Peer } from "./peer.js" */
/** @import { Env, Frame, Joined, SeatView } from "./types.js" */

/** From connected on: what the new connection does not bring by then is not waited for. */
export const SETTLE_MS = 4000;
/** How long the old connection goes on sending: others may still be there. */
export const LINGER_MS = 5000;
export const LOOK_MS = 50;

/**
 * Whether the new task brings what the old one does: everybody has come, and every
 * picture that was shown is being decoded.
 * @param {Roster} was @param {Roster} is @param {SeatView[]} old @param {SeatView[]} next
 * @param {Set<number>} decoded the new connection's seats whose pictures are
 */
export function ready(was, is, old, next, decoded) {
  for (const id of was.people.keys()) if (!is.people.has(id)) return false;
  const shown = new Set(old.filter((s) => plays(s)).map((s) => s.video));
  return [...shown].every((source) => next.some((s) => s.video === source && (s.paused || decoded.has(s.seat))));
}

/** Whether a seat's picture comes: a browser mutes a received track until its first packet. @param {SeatView} s */
const plays = (s) => Boolean(s.video) && !s.paused && s.stream.getVideoTracks?.()[0]?.muted === false;

export class Move {
  roster = new Roster();
  /** @type {any} */ #timer = null;
  #since = 0; // when the new connection was up
  #over = false;

  /**
   * @param {Env} env @param {Peer} old @param {Roster} was of the old task
   * @param {Peer} next @param {Joined} joined
   * @param {{go: () => void, frame: (f: Frame) => void}} on go: the new connection is to be used from
   *   now on; frame: something was said that does not depend on the task
   */
  constructor(env, old, was, next, joined, on) {
    this.env = env;
    this.old = old;
    this.was = was;
    this.next = next;
    this.on = on;
    this.roster.join(joined);
    this.#look();
  }

  #look() {
    this.#timer = this.env.setTimeout(() => this.#step(), LOOK_MS);
  }

  async #step() {
    if (this.#over) return;
    if (this.next.connected && this.next.open) this.#since ||= this.env.now();
    const waited = this.#since > 0 && this.env.now() - this.#since >= SETTLE_MS;
    if (waited || (this.#since > 0 && (await this.#ready()))) this.go();
    else if (!this.#over) this.#look();
  }

  async #ready() {
    const stats = await this.next.stats().catch(() => null); // closed meanwhile
    const decoded = new Set((stats?.seats ?? []).filter((s) => s.framesDecoded > 0).map((s) => s.seat));
    return ready(this.was, this.roster, this.was.views(this.old.seats), this.roster.views(this.next.seats), decoded);
  }

  /** Goes over. The old connection plays on for a while. */
  go() {
    if (this.#over) return;
    this.#over = true;
    this.env.clearTimeout(this.#timer);
    this.on.go();
    this.old.send("leave", { reason: "moved" });
    this.env.setTimeout(() => this.old.close(), LINGER_MS);
  }

  /** The new connection is of no use. */
  cancel() {
    this.#over = true;
    this.env.clearTimeout(this.#timer);
    this.next.close();
  }

  /** Ends both: the call is over. */
  close() {
    this.cancel();
    this.old.close();
  }

  /** A frame of the connection that is not in use. @param {Frame} frame @param {Peer} from */
  frame(frame, from) {
    if (frame.type === "chat") return this.on.frame(frame); // everybody says it at one task only
    if (from !== this.next || this.#over) return;
    if (frame.type === "participants") this.roster.change(frame.body);
    else if (frame.type === "seating") this.roster.seat(frame.body);
    else if (frame.type === "publish") this.next.publish(frame.body);
  }
}
