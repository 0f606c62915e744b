// Whether anything still comes over a connection: a path that has gone says so long
// before ICE does, which takes 5 s or more. Pure: no clock, no connection.

export const LOOK_MS = 300;
/** After a look that found nothing, and until one finds something. */
export const SOON_MS = 150;
/** Nothing for this long, where something came all the time, is suspect: the room reports 10 times a second. */
export const SUSPECT_MS = 400;
/** And for this long, the path has gone. */
export const SILENT_MS = 800;
/** Looks in a row that found something new, before silence means anything. */
export const STEADY_LOOKS = 6;

export class Pulse {
  #bytes = -1;
  #at = 0; // when something last came
  #steady = 0;
  #told = 0; // how long the silence was that was told of; 0 = there is none

  /**
   * Takes what has come so far, and says what is new: the path is suspect, it has gone
   * silent, or something comes again after that.
   * @param {number} now ms @param {number} bytes @returns {"" | "suspect" | "silent" | "back"}
   */
  look(now, bytes) {
    if (bytes > this.#bytes) {
      const told = this.#told;
      this.#steady = told >= SILENT_MS ? 1 : this.#steady + 1;
      this.#at = now;
      this.#told = 0;
      this.#bytes = bytes;
      return told > 0 ? "back" : "";
    }
    this.#bytes = bytes; // less: a path that brought some is not counted any more
    const quiet = now - this.#at;
    if (this.#steady < STEADY_LOOKS) {
      if (quiet >= SUSPECT_MS) this.#steady = 0;
    } else if (quiet >= SILENT_MS && this.#told < SILENT_MS) {
      this.#told = SILENT_MS;
      return "silent";
    } else if (quiet >= SUSPECT_MS && this.#told === 0) {
      this.#told = SUSPECT_MS;
      return "suspect";
    }
    return "";
  }

  /** Whether nothing has come for longer than from look to look. @param {number} now */
  quiet(now) {
    return this.#steady >= STEADY_LOOKS && now - this.#at > LOOK_MS;
  }

  /** Whether something came all the time, and still did at the last look. @param {number} now */
  flows(now) {
    return this.#steady >= STEADY_LOOKS && now - this.#at <= LOOK_MS + SOON_MS;
  }

  /** When to look next. @param {number} now */
  wait(now) {
    return this.#steady >= STEADY_LOOKS && now > this.#at && now - this.#at < 2 * SILENT_MS ? SOON_MS : LOOK_MS;
  }
}
