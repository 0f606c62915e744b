// What the room should know of this client (its view, which own sources are
// silent) beside what it was last told, so that nothing is told twice or forgotten.

import { sends } from "./peer.js";
import { MAX_WANTS } from "./wire.js";

/** @import { Peer } from "./peer.js" */
/** @import { Kind, Local, Offer, Size, View, Want } from "./types.js" */

export class Mirror {
  /** @type {View} */ view = { rev: 0, wants: [] };
  #rev = 0; // of the view that the room has
  /** @type {Map<Kind, boolean>} */ #silent = new Map();

  /** Takes a view; false if it is the one that is there. @param {Want[]} wants @param {Size} [others] */
  want(wants, others) {
    const next = { rev: this.view.rev, wants: wants.slice(0, MAX_WANTS), ...(others && { others }) };
    if (JSON.stringify(next) === JSON.stringify(this.view)) return false;
    this.view = { ...next, rev: next.rev + 1 };
    return true;
  }

  /** Notes what a join with this offer tells. @param {Offer} offer */
  joining(offer) {
    this.#rev = this.view.rev;
    for (const s of offer.sources ?? []) this.#silent.set(s.kind, s.muted === true);
  }

  /** What the room knows, to go back to. */
  told() {
    return { rev: this.#rev, silent: new Map(this.#silent) };
  }

  /** Another room task is to be told: it knows what was told then. @param {{rev: number, silent: Map<Kind, boolean>}} told */
  tell({ rev, silent }) {
    this.#rev = rev;
    this.#silent = new Map(silent);
  }

  /** Tells what the room does not know, if the channel is open. @param {Peer} peer @param {Record<Kind, Local>} local */
  sync(peer, local) {
    if (this.#rev < this.view.rev && peer.send("view", this.view)) this.#rev = this.view.rev;
    for (const [kind, told] of this.#silent) {
      const muted = !sends(local[kind]);
      if (told !== muted && peer.send("mute", { kind, muted })) this.#silent.set(kind, muted);
    }
  }
}
