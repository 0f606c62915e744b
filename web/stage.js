// The tiles: who is shown, how large, and what is heard. It turns seats into
// pictures and the sizes of the pictures into a view.

import { grid, pickMain, wantsOf } from "./layout.js";
import { initials, signalOf, whyPaused } from "./words.js";

/** @import { Kind, Level, Participant, Quality, SeatView, Speakers, Want } from "./types.js" */
/** @import { TileInfo } from "./layout.js" */

/** @param {string} tag @param {string} [name] class @param {string} [text] */
export function make(tag, name, text) {
  const el = document.createElement(tag);
  if (name) el.className = name;
  if (text !== undefined) el.textContent = text;
  return el;
}

/** @param {string} id of a symbol in the page */
export function icon(id) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#${id}`);
  svg.append(use);
  return svg;
}

/** One tile on the page. */
class Tile {
  /** @param {TileInfo} info @param {() => void} onPin */
  constructor(info, onPin) {
    this.info = info;
    this.el = make("article", "tile");
    this.el.classList.toggle("screen-tile", info.screen);
    this.el.classList.toggle("self", info.self);
    this.el.dataset.source = info.key;
    this.video = /** @type {HTMLVideoElement} */ (make("video"));
    this.video.autoplay = true;
    this.video.playsInline = true;
    this.video.muted = true;
    // Sound has an element of its own: Chromium keeps one that also has a picture
    // silent until the first frame, which may never come (no camera, no bandwidth).
    this.audio = /** @type {HTMLAudioElement} */ (make("audio"));
    this.audio.autoplay = true;
    this.avatar = make("span", "avatar");
    this.avatar.setAttribute("aria-hidden", "true");
    this.reason = make("span");
    const placeholder = make("div", "placeholder");
    placeholder.append(this.avatar, this.reason);
    this.name = make("span");
    const plate = make("div", "plate");
    this.signal = make("span", "signal"); // three bars, unless all is well
    this.signal.setAttribute("aria-hidden", "true"); // the tile's label says it
    this.signal.append(make("i"), make("i"), make("i"));
    plate.append(icon("i-mic-off"), this.signal, this.name);
    this.pin = /** @type {HTMLButtonElement} */ (make("button", "pin"));
    this.pin.type = "button";
    this.pin.append(icon("i-pin"));
    this.pin.onclick = onPin;
    this.pin.hidden = info.self;
    this.el.append(placeholder, this.video, this.audio, plate, this.pin); // the first frame covers the placeholder
  }

  /** @param {{name: string, muted: boolean, blank: boolean, paused: boolean, reason: string, pinned: boolean, speaking: boolean, level: Level, far: boolean}} s */
  show(s) {
    const label = this.info.screen ? `${s.name}: screen` : this.info.self ? (s.name ? `${s.name} (you)` : "You") : s.name;
    if (this.name.textContent !== label) {
      this.name.textContent = label;
      this.avatar.textContent = initials(s.name || "Guest");
    }
    this.reason.textContent = s.reason;
    this.el.classList.toggle("blank", s.blank);
    this.el.classList.toggle("paused", s.paused);
    this.el.classList.toggle("muted", s.muted && !this.info.screen);
    this.el.classList.toggle("speaking", s.speaking);
    const { bars, text } = signalOf(s.level, s.far);
    this.signal.hidden = text === "";
    this.signal.dataset.bars = String(bars);
    this.signal.title = text;
    this.el.setAttribute("aria-label", [label, s.muted && !this.info.screen && "muted", s.blank && s.reason, s.speaking && "speaking", text.toLowerCase()].filter(Boolean).join(", "));
    this.pin.setAttribute("aria-pressed", String(s.pinned));
    this.pin.setAttribute("aria-label", `${s.pinned ? "Unpin" : "Pin"} ${label}`);
  }

  /** @param {MediaStream | null} stream @param {() => void} onSilenced */
  play(stream, onSilenced) {
    if (this.video.srcObject === stream) return;
    this.video.srcObject = stream;
    const sound = this.info.self ? [] : (stream?.getAudioTracks() ?? []);
    this.audio.srcObject = sound.length > 0 ? new MediaStream(sound) : null;
    this.resume(onSilenced);
  }

  /** Plays what is paused: from the start, after a move on the page, or once the person has touched it. @param {() => void} onSilenced */
  resume(onSilenced) {
    if (this.video.srcObject) this.video.play().catch(() => {});
    if (this.audio.srcObject) this.audio.play().catch((err) => err.name === "NotAllowedError" && onSilenced());
  }
}

export class Stage {
  /** @type {"grid" | "speaker"} */ layout = "grid";
  pinned = "";
  self = { id: "", name: "", muted: false, held: false, camera: /** @type {MediaStream | null} */ (null) }; // held: others do not get the camera, though it is on
  /** @type {Map<string, Participant>} */ people = new Map();
  /** @type {SeatView[]} */ seating = [];
  /** @type {Speakers} */ speakers = { active: "" };
  /** @type {Quality | null} */ quality = null;
  /** Device pixels by key, of the tiles in sight. @type {Map<string, {width: number, height: number}>} */ sizes = new Map();

  /** @type {Map<string, Tile>} */ #tiles = new Map();
  /** @type {TileInfo[]} */ #infos = [];
  #shown = "";

  /** @param {{stage: HTMLElement, main: HTMLElement, tiles: HTMLElement, view: (wants: Want[]) => void, silenced: () => void}} o */
  constructor(o) {
    this.o = o;
    this.resized = new ResizeObserver((entries) => this.#measured(entries));
    this.resized.observe(o.tiles);
    this.seen = new IntersectionObserver(() => this.#measureAll(), { root: o.stage, threshold: [0, 0.1] });
  }

  /** Shows what the fields say. */
  update() {
    this.#infos = this.#list();
    const keys = new Set(this.#infos.map((t) => t.key));
    for (const [key, tile] of this.#tiles) if (!keys.has(key)) this.#remove(key, tile);
    if (!keys.has(this.pinned)) this.pinned = "";
    this.#shown = pickMain(this.#infos, { pinned: this.pinned, active: this.speakers.active, shown: this.#shown });
    const main = this.layout === "speaker" ? this.#shown : "";
    this.o.stage.classList.toggle("speaker", this.layout === "speaker");
    for (const [i, info] of this.#infos.entries()) this.#place(info, info.key === main, i);
    this.#arrange();
    this.#play();
    this.#tellView();
  }

  /** A tile per person, and one per shared screen. */
  #list() {
    /** @type {TileInfo[]} */
    const out = [];
    for (const p of this.people.values()) {
      const screen = p.sources.find((s) => s.kind === "screen" && !s.muted);
      if (screen) out.push({ key: screen.id, participant: p.id, screen: true, self: false, source: true });
      const camera = p.sources.find((s) => s.kind === "camera");
      out.push({ key: camera?.id ?? `${p.id}/camera`, participant: p.id, screen: false, self: false, source: camera !== undefined });
    }
    out.push({ key: "self", participant: this.self.id, screen: false, self: true, source: false });
    return out;
  }

  /** @param {TileInfo} info @param {boolean} large @param {number} order */
  #place(info, large, order) {
    let tile = this.#tiles.get(info.key);
    if (!tile) {
      tile = new Tile(info, () => this.#pin(info.key));
      this.#tiles.set(info.key, tile);
      this.resized.observe(tile.el);
      this.seen.observe(tile.el);
    }
    tile.info = info;
    tile.el.style.order = String(order);
    const parent = large ? this.o.main : this.o.tiles;
    if (tile.el.parentElement !== parent) {
      parent.append(tile.el); // moving a video pauses it
      tile.resume(() => {});
    }
    this.#describe(info, tile);
  }

  /** @param {TileInfo} info @param {Tile} tile */
  #describe(info, tile) {
    const speaking = this.speakers.active === info.participant && info.participant !== "" && !info.screen;
    if (info.self) {
      const off = !this.self.camera;
      const level = this.quality?.level ?? "excellent";
      return tile.show({ name: this.self.name, muted: this.self.muted, blank: off || this.self.held, paused: !off && this.self.held, reason: off ? "Camera off" : this.self.held ? "Others do not see you" : "", pinned: false, speaking, level, far: false });
    }
    const person = this.people.get(info.participant);
    /** @param {Kind} kind */
    const source = (kind) => person?.sources.find((s) => s.kind === kind);
    const seat = this.#seatOf(info);
    const video = source(info.screen ? "screen" : "camera");
    const off = !video || video.muted;
    const blank = off || !seat?.video || Boolean(seat.paused);
    const reason = off ? "Camera off" : seat?.video ? whyPaused(seat.paused, info.screen) : "";
    const way = this.quality?.seats.find((s) => s.seat === seat?.seat);
    tile.show({
      name: person?.name || person?.identity || "Guest",
      muted: source("mic")?.muted ?? true,
      blank, paused: !off && reason !== "", reason, pinned: info.key === this.pinned, speaking, level: way?.level ?? "excellent", far: way?.far ?? false,
    });
  }

  /** The seat that carries the tile's picture, or at least its sound. @param {TileInfo} info */
  #seatOf(info) {
    const own = this.seating.filter((s) => s.participant === info.participant);
    return own.find((s) => s.video === info.key) ?? own.find((s) => !s.video && Boolean(s.audio?.endsWith("/screen-audio")) === info.screen);
  }

  /** Says anew what is known of everyone; nothing moves. */
  describe() {
    for (const info of this.#infos) {
      const tile = this.#tiles.get(info.key);
      if (tile) this.#describe(info, tile);
    }
  }

  /** Gives every tile the stream of its seat. */
  #play() {
    for (const info of this.#infos) {
      const stream = info.self ? this.self.camera : (this.#seatOf(info)?.stream ?? null);
      this.#tiles.get(info.key)?.play(stream, this.o.silenced);
    }
  }

  /** Tries again to play, after the person has touched the page. */
  unsilence() {
    for (const tile of this.#tiles.values()) tile.resume(() => {});
  }

  /** @param {string} key @param {Tile} tile */
  #remove(key, tile) {
    this.resized.unobserve(tile.el);
    this.seen.unobserve(tile.el);
    tile.video.srcObject = tile.audio.srcObject = null;
    tile.el.remove();
    this.#tiles.delete(key);
    this.sizes.delete(key);
  }

  /** @param {string} key */
  #pin(key) {
    this.pinned = this.pinned === key ? "" : key;
    if (this.pinned) this.layout = "speaker";
    this.update();
    this.#tiles.get(key)?.pin.focus();
    this.o.stage.dispatchEvent(new Event("layout"));
  }

  #arrange() {
    const { tiles } = this.o;
    if (this.layout === "speaker") return;
    const gap = parseFloat(getComputedStyle(tiles).columnGap) || 0;
    const { width, height } = grid(this.#infos.length, tiles.clientWidth, tiles.clientHeight, gap);
    tiles.style.setProperty("--tile-w", `${width}px`);
    tiles.style.setProperty("--tile-h", `${height}px`);
  }

  /** @param {ResizeObserverEntry[]} entries */
  #measured(entries) {
    if (entries.some((e) => e.target === this.o.tiles)) this.#arrange();
    this.#measureAll();
  }

  #measureAll() {
    const frame = this.o.stage.getBoundingClientRect();
    for (const [key, { el }] of this.#tiles) {
      const box = el.getBoundingClientRect();
      const inSight = box.right > frame.left && box.left < frame.right && box.bottom > frame.top && box.top < frame.bottom;
      const scale = inSight && document.visibilityState === "visible" ? devicePixelRatio : 0;
      this.sizes.set(key, { width: Math.round(box.width * scale), height: Math.round(box.height * scale) });
    }
    this.#tellView();
  }

  /** After the page was hidden or shown. */
  visibility() {
    this.#measureAll();
  }

  #tellView() {
    const main = this.layout === "speaker" ? this.#shown : "";
    this.o.view(wantsOf(this.#infos, this.sizes, { pinned: this.pinned, main, active: this.speakers.active }));
  }
}
