// Frames as they travel: order, chunks, limits, errors. Pure: no socket, no timer,
// no clock. It mirrors shared/signal/reorder.go and chunk.go; docs/protocol.md is
// the contract of both.

/** @import { Chunk, Frame } from "./types.js" */

export const PROTOCOL = "mayfly.v1";
export const CHANNEL = "mayfly";
export const MAX_FRAME_BYTES = 32 * 1024;
export const MAX_PLAIN_BYTES = 15 * 1024;
export const MAX_CHUNK_BYTES = 12 * 1024;
export const MAX_DATA_BYTES = 512 * 1024;
export const MAX_CHAT_BYTES = 4 * 1024;
export const MAX_WANTS = 64;
export const MAX_SEATS = 64;
export const MAX_FIRST_SEATS = 8;
export const REORDER_HELD = 64;
export const REORDER_GAP_MS = 2000;

/** Codes after which the room closes the connection: trying again is of no use. */
const FINAL = new Set([
  "ticket_invalid", "ticket_expired", "ticket_used", "ticket_wrong_room", "resume_invalid", "ejected",
  "not_authenticated", "room_not_found", "room_ended",
]);
const RETRYABLE = new Set(["room_not_live", "room_full", "rate_limited", "internal", "signalling_lost", "media_lost"]);

/**
 * A fault with a code from docs/protocol.md, or one of the client's own:
 * unsupported, offer_too_large, signalling_lost, media_lost, left.
 */
export class CallError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {boolean} [retryable]
   */
  constructor(code, message, retryable = RETRYABLE.has(code)) {
    super(message);
    this.name = "CallError";
    this.code = code;
    this.retryable = retryable;
  }

  /** Whether the room closes the connection after this code. */
  get final() {
    return FINAL.has(this.code);
  }
}

const utf8 = new TextEncoder();

/** Length in UTF-8 bytes. @param {string} text */
export const byteLength = (text) => utf8.encode(text).length;

/**
 * Reads a frame, or throws a CallError.
 * @param {string} text
 * @returns {Frame}
 */
export function parseFrame(text) {
  let frame;
  try {
    frame = JSON.parse(text);
  } catch {
    throw new CallError("bad_message", "not JSON");
  }
  if (typeof frame !== "object" || frame === null || typeof frame.type !== "string" || frame.type === "") {
    throw new CallError("bad_message", "not a frame");
  }
  const seq = frame.seq ?? 0;
  if (!Number.isSafeInteger(seq) || seq < 0) throw new CallError("bad_message", "seq is not a count");
  return { type: frame.type, seq, body: frame.body ?? {} };
}

/**
 * Writes a frame. seq 0 and an absent body are left out.
 * @param {string} type
 * @param {number} seq
 * @param {unknown} [body]
 */
export function encodeFrame(type, seq, body) {
  return JSON.stringify({ type, ...(seq > 0 && { seq }), ...(body !== undefined && { body }) });
}

/** Puts the frames of one connection in order, once each. */
export class Reorder {
  #next;
  /** @type {Map<number, {frame: Frame, since: number}>} */
  #held = new Map();

  /** @param {number} [first] the lowest seq expected */
  constructor(first = 1) {
    this.#next = first;
  }

  /**
   * Takes a frame and returns those that are due, in order.
   * @param {number} now milliseconds
   * @param {Frame} frame
   * @returns {Frame[]}
   */
  push(now, frame) {
    const seq = frame.seq ?? 0;
    if (seq === 0) return [frame, ...this.expire(now)];
    if (seq >= this.#next && !this.#held.has(seq)) this.#held.set(seq, { frame, since: now });
    return this.expire(now);
  }

  /** Returns the frames that are due at now. @param {number} now @returns {Frame[]} */
  expire(now) {
    const due = this.#drain();
    while (this.#held.size > REORDER_HELD || now >= this.deadline()) {
      this.#next = Math.min(...this.#held.keys());
      due.push(...this.#drain());
    }
    return due;
  }

  /** When expire is due; Infinity if nothing waits. */
  deadline() {
    let first = Infinity;
    for (const { since } of this.#held.values()) first = Math.min(first, since + REORDER_GAP_MS);
    return first;
  }

  #drain() {
    /** @type {Frame[]} */
    const due = [];
    for (let held; (held = this.#held.get(this.#next)); this.#next++) {
      this.#held.delete(this.#next);
      due.push(held.frame);
    }
    return due;
  }
}

/**
 * Cuts a frame's text into chunks, never inside a character.
 * @param {number} id
 * @param {string} text
 * @returns {Chunk[]}
 */
export function split(id, text) {
  const total = byteLength(text);
  if (total > MAX_DATA_BYTES) throw new CallError("too_large", `frame of ${total} bytes`);
  /** @type {string[]} */
  const parts = [];
  let part = "";
  let size = 0;
  for (const char of text) {
    const point = /** @type {number} */ (char.codePointAt(0));
    const bytes = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    if (size + bytes > MAX_CHUNK_BYTES) {
      parts.push(part);
      part = "";
      size = 0;
    }
    part += char;
    size += bytes;
  }
  parts.push(part);
  return parts.map((data, index) => ({ id, index, count: parts.length, data }));
}

/** Puts chunks together again. */
export class Assembler {
  #id = 0;
  #count = 0;
  /** @type {string[]} */
  #parts = [];
  #bytes = 0;

  /**
   * Returns the whole text with the last chunk, else null. Throws a CallError for a
   * chunk that does not fit, and drops what was begun.
   * @param {Chunk} chunk
   */
  push(chunk) {
    const { id, index, count, data } = chunk;
    const begun = this.#parts.length;
    const bytes = typeof data === "string" ? byteLength(data) : 0;
    const fits =
      bytes > 0 && bytes <= MAX_CHUNK_BYTES && this.#bytes + bytes <= MAX_DATA_BYTES &&
      index === begun && Number.isInteger(count) && index < count &&
      count <= MAX_DATA_BYTES / MAX_CHUNK_BYTES + 2 &&
      (begun === 0 || (id === this.#id && count === this.#count));
    if (!fits) {
      this.#reset();
      throw new CallError("bad_message", "chunk does not fit");
    }
    this.#id = id;
    this.#count = count;
    this.#bytes += bytes;
    this.#parts.push(data);
    if (this.#parts.length < count) return null;
    const whole = this.#parts.join("");
    this.#reset();
    return whole;
  }

  #reset() {
    this.#parts = [];
    this.#bytes = 0;
  }
}

/** The longest delays before the tries to come back, in milliseconds; the last one repeats. */
export const CEILINGS = [500, 1000, 2500, 5000, 10_000, 15_000];

/**
 * The delay before try n (from 0): any time up to its ceiling, all equally likely. So a
 * thousand clients who lost the same thing do not come back in the same instant, and
 * those who are turned away come back over a longer time each time.
 * @param {number} n
 * @param {number} random 0 ≤ random < 1
 */
export function retryDelay(n, random) {
  return random * (CEILINGS[Math.min(n, CEILINGS.length - 1)] ?? 0);
}
