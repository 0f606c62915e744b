// The page before the call: devices, name, and how the room's start is going.

import { Meter, list, open, openBoth, remember } from "./devices.js";
import { UNHEARD_MS, deviceProblem, initials, roomStatus } from "./words.js";

/** @import { Room } from "./types.js" */

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/** Switches a button between on and off. @param {string} id @param {boolean} off @param {string} symbol @param {string} label */
export function toggle(id, off, symbol, label) {
  const button = $(id);
  button.setAttribute("aria-pressed", String(off));
  button.classList.toggle("off", off);
  button.querySelector("use").setAttribute("href", `#${symbol}${off ? "-off" : ""}`);
  button.querySelector("span").textContent = label;
}

export class Prejoin {
  /** @type {MediaStreamTrack | null} */ mic = null;
  /** @type {MediaStreamTrack | null} */ camera = null;
  muted = false;
  cameraOff = false;
  waiting = false; // the person has asked to join
  #opening = true; // the devices: what will be is not known yet
  #since = Date.now(); // when it was first asked for the room
  /** @type {Room | null} */ #room = null;
  #meter = new Meter();
  /** @type {any} */ #clock = null;
  #said = "";

  /** @param {{name: string, fixedName: boolean, join: () => void, opened: () => void}} o opened: the devices are, as far as they can be */
  constructor(o) {
    this.o = o;
    $("name").value = o.name;
    $("name").readOnly = o.fixedName;
    $("prejoin-form").onsubmit = (/** @type {Event} */ e) => {
      e.preventDefault();
      this.ask();
    };
    $("pre-mic").onclick = () => this.toggleMic();
    $("pre-camera").onclick = () => this.toggleCamera();
    $("name").oninput = () => this.#show();
    $("mics").onchange = () => this.#choose("mic", $("mics").value);
    $("cameras").onchange = () => this.#choose("camera", $("cameras").value);
  }

  get name() {
    return $("name").value.trim();
  }

  /** Asks to join: from here on the page joins as soon as the room is live. */
  ask() {
    this.waiting = true;
    $("join").disabled = true;
    $("join").textContent = "Joining…";
    this.room(this.#room);
    this.o.join();
  }

  /** Opens the devices and shows them. */
  async start() {
    $("prejoin").hidden = false;
    this.#clock = setInterval(() => this.room(this.#room), 1000);
    this.#show();
    navigator.mediaDevices?.addEventListener("devicechange", this.#changed);
    const got = await openBoth();
    this.o.opened();
    this.#opening = false;
    this.mic = got.mic;
    this.camera = got.camera;
    $("device-hint").textContent = got.error ? deviceProblem(got.error) : "";
    this.#show();
    await this.#changed();
    this.#meter.start(this.mic, (level) => $("meter").firstElementChild.style.setProperty("--level", String(this.muted ? 0 : level)));
  }

  stop() {
    clearInterval(this.#clock);
    this.#meter.stop();
    navigator.mediaDevices?.removeEventListener("devicechange", this.#changed);
    $("preview").srcObject = null;
    $("prejoin").hidden = true;
  }

  /** Mutes or unmutes; one that is missing is tried again. */
  async toggleMic() {
    this.muted = this.mic || this.#opening ? !this.muted : false;
    if (!this.mic && !this.#opening) await this.#choose("mic", $("mics").value);
    this.#show();
  }

  async toggleCamera() {
    if (this.#opening) return;
    this.cameraOff = this.camera !== null;
    if (this.cameraOff) {
      this.camera?.stop(); // its light goes out
      this.camera = null;
    } else {
      await this.#choose("camera", $("cameras").value);
    }
    this.#show();
  }

  /** @param {Room | null} room */
  room(room) {
    this.#room = room;
    const { text, done } = roomStatus(room, Date.now(), this.waiting, Date.now() - this.#since);
    const status = $("room-status");
    status.classList.toggle("live", room?.state === "live");
    status.classList.toggle("bad", !room && Date.now() - this.#since >= UNHEARD_MS);
    $("room-text").textContent = text;
    $("room-bar").hidden = done === null;
    if (done !== null) $("room-bar").firstElementChild.style.setProperty("--done", done.toFixed(1));
    // Seconds would be read aloud every second; the phase is enough.
    const phase = text.replace(/[,;].*|\.$/, "");
    if (phase !== this.#said) $("announce").textContent = this.#said = phase;
  }

  #changed = async () => {
    await Promise.all([list($("mics"), "audioinput", this.mic), list($("cameras"), "videoinput", this.camera)]);
  };

  /** @param {"mic" | "camera"} kind @param {string} id */
  async #choose(kind, id) {
    try {
      const track = await open(kind, id);
      this[kind]?.stop();
      this[kind] = track;
      remember({ [kind]: id });
      $("device-hint").textContent = "";
      await this.#changed(); // what was forbidden before has names now
      if (kind === "mic") this.#meter.start(track, (level) => $("meter").firstElementChild.style.setProperty("--level", String(this.muted ? 0 : level)));
      else this.cameraOff = false;
    } catch (err) {
      $("device-hint").textContent = deviceProblem(err);
    }
    this.#show();
  }

  #show() {
    const off = this.cameraOff || !this.camera;
    const silent = this.muted || (!this.mic && !this.#opening);
    const dark = off && !this.#opening;
    toggle("pre-mic", silent, "i-mic", silent ? "Unmute" : "Mute");
    toggle("pre-camera", dark, "i-cam", dark ? "Camera on" : "Camera off");
    $("prejoin").querySelector(".preview").classList.toggle("off", off);
    $("preview-note").textContent = this.#opening ? "" : this.cameraOff ? "Camera off" : "No camera";
    $("preview-avatar").textContent = this.name ? initials(this.name) : "";
    const stream = off ? null : this.camera;
    const shown = $("preview").srcObject?.getVideoTracks()[0] ?? null;
    if (shown !== stream) $("preview").srcObject = stream ? new MediaStream([stream]) : null;
  }
}
