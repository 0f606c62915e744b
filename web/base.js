// What a call stands on: the browser's own things in one place, so that tests can
// give others; listeners; named timers.

import { CallError } from "./wire.js";

/** @import { CallErrorInfo, CallEvents, CallOptions, Env } from "./types.js" */

/** Touches the browser when it is called and not before, so that a server may import the client. @returns {Env} */
export function browserEnv() {
  const g = /** @type {any} */ (globalThis);
  return {
    WebSocket: g.WebSocket,
    RTCPeerConnection: g.RTCPeerConnection,
    MediaStream: g.MediaStream,
    sendable: (kind) => g.RTCRtpSender?.getCapabilities?.(kind) ?? null,
    capabilities: (kind) => g.RTCRtpReceiver?.getCapabilities?.(kind) ?? null,
    now: () => Date.now(),
    setTimeout: (fn, ms) => setTimeout(fn, ms),
    clearTimeout: (id) => clearTimeout(id),
    random: () => Math.random(),
    secret: () => {
      const bytes = crypto.getRandomValues(new Uint8Array(18));
      return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_");
    },
  };
}

/** The environment of a call, if there can be one. @param {CallOptions} options @returns {Env} */
export function envOf({ ws, ticket, resume, env, e2ee }) {
  if (!ws || !ticket === !resume) {
    throw new CallError("bad_message", "a call needs a WebSocket URL and either a ticket or a resume secret");
  }
  const all = { ...browserEnv(), ...env, ...(e2ee && { e2ee }) };
  if (!all.RTCPeerConnection || !all.WebSocket) throw new CallError("unsupported", "this browser has no WebRTC");
  return all;
}

/** Listeners of a call's events. */
export class Events {
  /** @type {Map<string, Set<(arg: any) => void>>} */ #listeners = new Map();

  /**
   * Returns a function that stops listening.
   * @template {keyof CallEvents} K
   * @param {K} type @param {(arg: CallEvents[K]) => void} fn
   */
  on(type, fn) {
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(fn));
    return () => void set.delete(fn);
  }

  /**
   * @template {keyof CallEvents} K
   * @param {K} type @param {CallEvents[K]} arg
   */
  emit(type, arg) {
    for (const fn of this.#listeners.get(type) ?? []) fn(arg);
  }
}

/** Timers by name: at most one of each. */
export class Timers {
  /** @type {Map<string, any>} */ #ids = new Map();

  /** @param {Env} env */
  constructor(env) {
    this.env = env;
  }

  /** Runs fn after ms, instead of what was planned under the name. @param {string} name @param {number} ms @param {() => void} fn */
  after(name, ms, fn) {
    this.cancel(name);
    const run = () => {
      this.#ids.delete(name);
      fn();
    };
    this.#ids.set(name, this.env.setTimeout(run, ms));
  }

  /** @param {string} name */
  has(name) {
    return this.#ids.has(name);
  }

  /** @param {string} name */
  cancel(name) {
    this.env.clearTimeout(this.#ids.get(name));
    this.#ids.delete(name);
  }

  clear() {
    for (const name of [...this.#ids.keys()]) this.cancel(name);
  }
}

/** @param {unknown} err @returns {CallErrorInfo} */
export function errorInfo(err) {
  if (err instanceof CallError) return { code: err.code, message: err.message, retryable: err.retryable };
  return { code: "internal", message: err instanceof Error ? err.message : String(err), retryable: false };
}

/**
 * @template T
 * @typedef {{promise: Promise<T>, resolve: (v: T) => void, reject: (e: Error) => void}} Deferred
 */

/** A promise for others to settle. Nobody need listen for its rejection. @template T @returns {Deferred<T>} */
export function deferred() {
  /** @type {any} */
  const d = {};
  d.promise = new Promise((resolve, reject) => Object.assign(d, { resolve, reject }));
  d.promise.catch(() => {});
  return d;
}
