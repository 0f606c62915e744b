// Who is in the room and who sits where, as the room tells it. Pure.

/** @import { Joined, Participant, Seat, Seating, SeatView } from "./types.js" */

export class Roster {
  /** The client's own participant id, "" before joining. */
  self = "";
  /** Everyone else, by id. @type {Map<string, Participant>} */
  people = new Map();
  /** @type {Seat[]} */ #seats = [];
  #rev = -1;

  /** Starts anew with what a join tells. @param {Joined} joined */
  join(joined) {
    this.self = joined.participant;
    this.people = new Map((joined.participants ?? []).map((p) => [p.id, p]));
    this.#rev = -1;
    this.seat(joined.seating);
  }

  /** @param {{upsert?: Participant[], remove?: string[]}} change */
  change({ upsert, remove }) {
    for (const p of upsert ?? []) if (p.id !== this.self) this.people.set(p.id, p);
    for (const id of remove ?? []) this.people.delete(id);
  }

  /** Takes a seating, unless a newer one is known. @param {Seating} seating */
  seat(seating) {
    if (seating.rev < this.#rev) return;
    this.#rev = seating.rev;
    this.#seats = seating.seats ?? [];
  }

  /** The seats that have a stream, with it. @param {Map<number, {stream: MediaStream}>} streams @returns {SeatView[]} */
  views(streams) {
    return this.#seats.flatMap((s) => {
      const stream = streams.get(s.seat)?.stream;
      return stream ? [{ ...s, stream }] : [];
    });
  }
}
