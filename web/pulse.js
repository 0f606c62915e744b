// Whether anything still comes over a connection: a path that has gone says so long
// before ICE does, which takes 5 s or more. Pure: no clock, no connection.

export const LOOK_MS = 500;
/** Nothing for this long, where something came all the time: the room reports 10 times a second. */
export const SILENT_MS = 1000;
/** Looks in a row that found something new, before silence means anything. */
export const STEADY_LOOKS = 4;

export class Pulse {
  #bytes = -1;
  #at = 0; // when something last came
  #steady = 0;

  /** Takes what has come so far; true if the path has just gone silent. @param {number} now ms @param {number} bytes */
  look(now, bytes) {
    if (bytes !== this.#bytes) {
      this.#bytes = bytes;
      this.#at = now;
      this.#steady++;
      return false;
    }
    if (now - this.#at < SILENT_MS) return false;
    const gone = this.#steady >= STEADY_LOOKS;
    this.#steady = 0;
    return gone;
  }
}
