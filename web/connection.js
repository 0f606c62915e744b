// The corner of the page that says how the connection is, in a few words; its figures
// unfold. It listens to the call by itself.

import { $ } from "./prejoin.js";
import { make } from "./stage.js";
import { connectionFigures, connectionState, weak } from "./words.js";

/** @import { Call } from "./client.js" */
/** @import { Quality, Stats } from "./types.js" */

const STATS_MS = 2000;

export class ConnectionPanel {
  /** @type {Stats | null} */ #stats = null;
  /** @type {Quality | null} */ #quality = null;
  #up = { signalling: true, media: false };
  #met = false; // media was up before
  #said = "";
  /** @type {any} */ #timer = null;

  /** @param {Call} call */
  constructor(call) {
    this.call = call;
    call.on("connection", (up) => {
      const came = up.media && !this.#up.media;
      this.#up = up;
      this.#met ||= up.media;
      this.#show();
      if (came) this.#read();
    });
    call.on("quality", (quality) => {
      this.#quality = quality;
      this.#show();
    });
    call.on("seating", () => this.#show());
    call.on("ended", () => clearTimeout(this.#timer));
    $("connection").addEventListener("toggle", () => this.#show());
    $("connection").addEventListener("keydown", (/** @type {KeyboardEvent} */ e) => {
      if (e.key !== "Escape") return;
      $("connection").open = false;
      $("connection-state").focus();
    });
  }

  /** Reads the figures, now and then again. */
  async #read() {
    const stats = await this.call.stats().catch(() => null); // closed meanwhile
    if (stats) this.#stats = stats;
    this.#show();
    clearTimeout(this.#timer);
    if (!this.call.over) this.#timer = setTimeout(() => this.#read(), STATS_MS);
  }

  #show() {
    const paused = this.call.seating.filter((s) => s.paused === "bandwidth").length;
    const state = connectionState(this.#up.media, this.#met, this.#quality, paused);
    if (state !== this.#said) $("connection-state").textContent = this.#said = state;
    $("connection").classList.toggle("weak", !this.#up.media || weak(this.#stats, this.#quality));
    if (!$("connection").open) return;
    const figures = connectionFigures(this.#stats, this.#up.signalling, this.#quality);
    $("connection-figures").replaceChildren(...figures.flatMap(([what, value]) => [make("dt", "", what), make("dd", "", value)]));
  }
}
