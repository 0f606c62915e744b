// The WebSocket of a call: it opens, says hello, keeps alive, and comes back. It
// knows frames but no meaning; client.js decides what they mean and when to stop.

import { PROTOCOL, Reorder, encodeFrame, parseFrame, retryDelay } from "./wire.js";

/** @import { Env, Frame } from "./types.js" */

export const PING_MS = 4 * 60_000; // the gateway closes after 10 minutes without a frame
export const PONG_MS = 10_000;
export const ROTATE_MS = 110 * 60_000; // the gateway closes after 2 hours
export const OPEN_MS = 10_000;
export const STEADY_MS = 10_000; // a connection that lived this long starts the schedule anew
/** An answer to a ping takes less; if it takes more, another connection is worth its cost. */
export const PROBE_MS = 400;
/** To open while a call is cut off: a lost SYN is sent again after 1, 3 and 7 s, so a new try is quicker. */
export const HURRY_OPEN_MS = 2000;
export const HURRY_RETRY_MS = 250; // between two such tries, at most
export const HURRY_MS = 30_000; // then the schedule is the usual one

/** Frames that need no order: each carries its own, or stands alone. */
const UNORDERED = new Set(["room", "pong", "error"]);

/** One WebSocket connection, from open to close. */
class Link {
  #reorder = new Reorder();
  #seq = 0;
  /** @type {any} */
  #gap = null;

  /**
   * @param {Env} env
   * @param {string} url
   * @param {{open: (l: Link) => void, frame: (l: Link, f: Frame) => void, closed: (l: Link) => void}} on
   * @param {number} openMs until it has to be greeted
   */
  constructor(env, url, on, openMs) {
    this.env = env;
    this.on = on;
    this.greeted = false; // the server has said something
    this.heardAt = 0; // when it last did
    this.done = false;
    this.ws = new env.WebSocket(url, PROTOCOL);
    this.ws.onopen = () => this.done || on.open(this);
    this.ws.onmessage = (e) => this.#receive(e.data);
    this.ws.onclose = () => this.close();
    this.ws.onerror = () => {}; // a close follows
    this.timers = new Set([env.setTimeout(() => this.greeted || this.close(), openMs)]);
  }

  /** @param {string} type @param {unknown} [body] @param {boolean} [ordered] */
  send(type, body, ordered = true) {
    if (this.ws.readyState !== 1) return false;
    this.ws.send(encodeFrame(type, ordered ? ++this.#seq : 0, body));
    return true;
  }

  /** @param {() => void} fn @param {number} ms */
  after(fn, ms) {
    this.timers.add(this.env.setTimeout(fn, ms));
  }

  close() {
    if (this.done) return;
    this.done = true;
    for (const t of this.timers) this.env.clearTimeout(t);
    this.env.clearTimeout(this.#gap);
    this.ws.close(1000);
    this.on.closed(this);
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.done || typeof data !== "string") return;
    let frame;
    try {
      frame = parseFrame(data);
    } catch {
      return; // not ours; nothing can be answered
    }
    this.greeted = true;
    this.heardAt = this.env.now();
    if (UNORDERED.has(frame.type)) return this.#deliver([frame]);
    if (frame.type === "joined") {
      // The task numbers its frames anew with each join it answers, and after a lost
      // task it is another one.
      this.#reorder = new Reorder((frame.seq ?? 0) + 1);
      return this.#deliver([frame]);
    }
    this.#deliver(this.#reorder.push(this.env.now(), frame));
  }

  /** @param {Frame[]} due */
  #deliver(due) {
    for (const frame of due) if (!this.done) this.on.frame(this, frame);
    this.env.clearTimeout(this.#gap);
    const wait = this.#reorder.deadline() - this.env.now();
    if (Number.isFinite(wait) && !this.done) {
      this.#gap = this.env.setTimeout(() => this.#deliver(this.#reorder.expire(this.env.now())), Math.max(0, wait));
    }
  }
}

/** The WebSocket over its reconnections. */
export class Socket {
  /** @type {Link | null} */
  #link = null;
  /** @type {Link | null} */
  #next = null; // the planned successor, until it has been greeted
  #tries = 0;
  #told = false; // up(true) was the last word
  /** @type {any} */
  #retry = null;
  #stopped = false;
  #awaitsPong = false;
  #hurry = 0; // since when the call is cut off; 0 = it is not

  /**
   * @param {{
   *   url: string, env: Env,
   *   hello: () => {type: string, body: unknown},
   *   frame: (f: Frame) => void,
   *   up: (up: boolean) => void,
   *   lost: (tries: number) => boolean,
   * }} o hello is the first frame of each connection; up tells of every change, and of each
   *   connection that takes over from another; lost says, after each failed try, whether to try on
   */
  constructor(o) {
    this.o = o;
  }

  get up() {
    return this.#link?.greeted === true;
  }

  open() {
    this.#link = this.#make();
  }

  /** When the service last said something on the connection in use, 0 = never. */
  get heardAt() {
    return this.#link?.heardAt ?? 0;
  }

  /**
   * The call is cut off: asks whether the connection still lives. A dead one says nothing
   * for minutes, and one that lives again may take seconds to notice, so without an answer
   * another one is opened beside it, again and again until calm is called.
   * @param {boolean} [moved] the network is another one, so it can hardly live: none is waited for
   */
  check(moved = false) {
    if (this.#stopped) return;
    const now = this.o.env.now();
    if (!this.#hurries) this.#hurry = now;
    const link = this.#link;
    if (!link) return this.nudge();
    link.send("ping", undefined, false);
    if (moved) this.#doubt(link, Infinity);
    else link.after(() => this.#doubt(link, now), PROBE_MS);
  }

  /** The call is whole again. */
  calm() {
    this.#hurry = 0;
  }

  get #hurries() {
    return this.#hurry > 0 && this.o.env.now() - this.#hurry < HURRY_MS;
  }

  /** Opens another connection, if this one has said nothing since. @param {Link} link @param {number} since */
  #doubt(link, since) {
    if (link !== this.#link || link.heardAt >= since || !this.#hurries) return;
    if (!link.greeted) link.close(); // it was opened before the network came back, perhaps
    else this.#next ??= this.#make();
  }

  /**
   * Sends on the connection, if there is one.
   * @param {string} type @param {unknown} [body]
   */
  send(type, body) {
    return this.#link?.send(type, body) ?? false;
  }

  /** Reconnects now, as when the network has come back, instead of on schedule. */
  nudge() {
    if (this.#link || this.#next || this.#stopped) return;
    this.o.env.clearTimeout(this.#retry);
    this.#link = this.#make();
  }

  stop() {
    this.#stopped = true;
    this.o.env.clearTimeout(this.#retry);
    this.#next?.close();
    this.#link?.close();
  }

  #make() {
    return new Link(this.o.env, this.o.url, {
      open: (link) => this.#opened(link),
      frame: (link, frame) => this.#frame(link, frame),
      closed: (link) => this.#closed(link),
    }, this.#hurries ? HURRY_OPEN_MS : OPEN_MS);
  }

  /** @param {Link} link */
  #opened(link) {
    const hello = this.o.hello();
    link.send(hello.type, hello.body);
    const ping = () => {
      link.send("ping", undefined, false);
      this.#awaitsPong = true;
      link.after(() => link === this.#link && this.#awaitsPong && link.close(), PONG_MS);
      link.after(ping, PING_MS);
    };
    link.after(ping, PING_MS);
    link.after(() => (this.#tries = 0), STEADY_MS);
    this.#rotateIn(link, ROTATE_MS);
  }

  /** Opens a successor after a while; the old connection serves until it is greeted.
   *  @param {Link} link @param {number} ms */
  #rotateIn(link, ms) {
    link.after(() => {
      if (link === this.#link && !this.#next) this.#next = this.#make();
    }, ms);
  }

  /** @param {Link} link @param {Frame} frame */
  #frame(link, frame) {
    if (link === this.#next) {
      const old = this.#link;
      this.#link = link;
      this.#next = null;
      old?.close();
      if (this.#told) this.o.up(true);
    }
    if (link !== this.#link) return;
    this.#awaitsPong = false;
    this.#tell(true);
    if (frame.type !== "pong") this.o.frame(frame);
  }

  /** @param {Link} link */
  #closed(link) {
    if (link === this.#next) {
      this.#next = null;
      if (this.#link) return this.#again(this.#link);
    } else if (link !== this.#link) {
      return;
    } else {
      this.#link = null;
      this.#awaitsPong = false;
      this.#tell(false);
      if (this.#next) return; // it takes over
    }
    if (this.#stopped) return;
    if (!this.o.lost(this.#tries)) {
      this.#stopped = true;
      return;
    }
    this.#retry = this.o.env.setTimeout(() => this.nudge(), this.#delay());
  }

  /** The successor of a connection could not be opened. @param {Link} link */
  #again(link) {
    if (this.#hurries) link.after(() => this.#doubt(link, this.#hurry), this.#delay());
    else this.#rotateIn(link, 60_000);
  }

  /** How long to wait before the next try. */
  #delay() {
    const delay = retryDelay(this.#tries++, this.o.env.random());
    return this.#hurries ? Math.min(delay, HURRY_RETRY_MS) : delay;
  }

  /** @param {boolean} up */
  #tell(up) {
    if (up === this.#told) return;
    this.#told = up;
    this.o.up(up);
  }
}
