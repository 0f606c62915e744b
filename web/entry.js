// The way in: the ticket or the resume secret, and the join that shows it. A join whose
// answer is lost is sent again as the same attempt, so that a ticket that was used by it
// is not lost with it. client.js says when.

import { current, joinBody } from "./joining.js";
import { retryDelay } from "./wire.js";

/** @import { Timers } from "./base.js" */
/** @import { Mirror } from "./mirror.js" */
/** @import { CallOptions, Env, Kind, Local, Offer } from "./types.js" */

export const JOIN_RETRY_MS = 3000; // a join without an answer is sent again

/**
 * @typedef {{
 *   options: CallOptions, env: Env, timers: Timers, mirror: Mirror, local: Record<Kind, Local>,
 *   again: () => void, kept: (resume: string) => void,
 * }} Around again asks for the join once more; kept is told of each new secret
 */

export class Entry {
  resume;
  sent = false; // a join, and its answer is awaited
  tried = false; // the ticket or secret may have been used, by a join whose answer is unknown
  /** @type {Around} */ #call;
  #ticket;
  #attempt;
  #askedAt = 0; // when the latest join was sent
  #told; // with it

  /** @param {Around} call */
  constructor(call) {
    this.#call = call;
    this.#ticket = call.options.ticket ?? "";
    this.resume = call.options.resume ?? "";
    this.#attempt = call.env.secret();
    this.#told = call.mirror.told();
  }

  get secret() { return this.#ticket ? { ticket: this.#ticket } : { resume: this.resume }; }

  /** Whether the same ticket may have been used by a join that must be repeated as it was. */
  get again() { return this.tried && this.#ticket !== ""; }

  /** How long ago the latest join was sent, ms. */
  get waited() { return this.#call.env.now() - this.#askedAt; }

  /** What the room was told of this client with the latest join. */
  get told() { return this.#told; }

  /** The join, about to be sent. @param {Offer} offer */
  join(offer) {
    const { mirror, env, local, options } = this.#call;
    const now = current(offer, local);
    mirror.joining(now);
    this.#told = mirror.told();
    this.sent = this.tried = true;
    this.#askedAt = env.now();
    this.#retry(JOIN_RETRY_MS);
    return joinBody(options, this.secret, this.#attempt, now, mirror.view);
  }

  /** Joins again after a while: the room could not answer yet. */
  later() { this.#retry(retryDelay(1, this.#call.env.random())); }

  /** @param {number} ms */
  #retry(ms) {
    this.#call.timers.after("join", ms, () => {
      this.sent = false;
      this.#call.again();
    });
  }

  /** No answer can come any more to what was sent. */
  forget() {
    this.sent = false;
    this.#call.timers.cancel("join");
  }

  /** The join was answered: the next is another attempt. @param {string} resume */
  answered(resume) {
    this.forget();
    this.#attempt = this.#call.env.secret();
    this.tried = false;
    this.keep(resume);
  }

  /** @param {string} resume the secret for the next join */
  keep(resume) {
    this.#ticket = "";
    this.resume = resume;
    this.#call.kept(resume);
  }
}
