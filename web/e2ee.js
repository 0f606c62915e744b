// End-to-end encryption of a call's media, as an option of Call:
//
//   const e2ee = new MediaCrypto(key);           // base64url, at least 16 bytes
//   const call = new Call({ ws, ticket, e2ee });
//   e2ee.setKey(1, next);                        // when somebody has left
//   e2ee.ratchet();                              // when somebody has come
//
// The key goes from here to a worker of this page and nowhere else. Everyone in the call
// needs it; how it gets there is the product's matter. docs/protocol.md has the frames.

import { readKey } from "./frame-crypto.js";
import { CallError } from "./wire.js";

/** Whether this browser can. */
export const supported = () => "RTCRtpScriptTransform" in globalThis && "Worker" in globalThis;

export class MediaCrypto {
  /** @type {Worker} */ #worker;

  /** @param {string} key */
  constructor(key) {
    if (!supported()) throw new CallError("unsupported", "this browser cannot encrypt media end to end");
    this.#worker = new Worker(new URL("./e2ee-worker.js", import.meta.url), { type: "module" });
    this.setKey(0, key);
  }

  /** Encrypts with another key from now on. Earlier ones still open what comes. @param {number} id @param {string} key */
  setKey(id, key) {
    const bytes = readKey(key);
    if (!bytes) throw new CallError("bad_key", "the key is not base64url of at least 16 bytes");
    this.#worker.postMessage({ type: "key", id, key: bytes.buffer });
  }

  /** Encrypts with the key that follows from the present one. The others go along. */
  ratchet() {
    this.#worker.postMessage({ type: "ratchet" });
  }

  /** @param {RTCRtpSender} sender @param {"audio" | "video"} media */
  encrypt(sender, media) {
    this.#transform(sender, "send", media);
  }

  /** @param {RTCRtpReceiver} receiver @param {"audio" | "video"} media */
  decrypt(receiver, media) {
    this.#transform(receiver, "receive", media);
  }

  /** @param {any} end @param {string} side @param {string} media */
  #transform(end, side, media) {
    end.transform = new (/** @type {any} */ (globalThis).RTCRtpScriptTransform)(this.#worker, { side, media });
  }

  /** Frames that came and could be opened, or not. @returns {Promise<{opened: number, failed: number, key: number}>} */
  count() {
    return new Promise((resolve) => {
      this.#worker.addEventListener("message", (e) => resolve(e.data), { once: true });
      this.#worker.postMessage({ type: "count" });
    });
  }

  close() {
    this.#worker.terminate();
  }
}
