// End-to-end encryption of encoded frames, as docs/protocol.md has it. Pure but for
// WebCrypto: no worker, no RTCPeerConnection. e2ee-worker.js feeds it.

const SALT = 8;
const TRAILER = SALT + 4 + 1; // salt, counter, key id
const TAG = 16; // bytes of AES-GCM's
const RATCHETS = 8; // how many keys ahead a receiver looks
const SALTS = 64; // encoders whose keys are kept; a room has at most 64 seats
const text = new TextEncoder();

/**
 * How much of a frame stays clear: what the room reads of VP8 (RFC 6386 §9.1), which is
 * whether it is a keyframe, and then its size. Of audio the room reads nothing.
 * @param {"audio" | "video"} media @param {Uint8Array} frame
 */
export function clearBytes(media, frame) {
  if (media === "audio") return 0;
  return ((frame[0] ?? 1) & 1) === 0 ? 10 : 3;
}

/** @param {ArrayBuffer} secret @param {Uint8Array} salt @param {string} info */
async function derive(secret, salt, info) {
  const base = await crypto.subtle.importKey("raw", secret, "HKDF", false, ["deriveBits"]);
  return crypto.subtle.deriveBits({ name: "HKDF", hash: "SHA-256", salt: /** @type {BufferSource} */ (salt), info: text.encode(info) }, base, 256);
}

/** @param {ArrayBuffer} secret @param {Uint8Array} salt @param {KeyUsage} usage */
async function frameKey(secret, salt, usage) {
  return crypto.subtle.importKey("raw", await derive(secret, salt, "mayfly-e2ee-frame"), "AES-GCM", false, [usage]);
}

/** The next key. @param {ArrayBuffer} secret */
export const ratchet = (secret) => derive(secret, new Uint8Array(0), "mayfly-e2ee-ratchet");

/** Reads a key of at least 16 bytes from base64url; null if it is none. @param {string} key */
export function readKey(key) {
  if (!/^[A-Za-z0-9_-]{22,128}$/.test(key)) return null;
  return Uint8Array.from(atob(key.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
}

/** The shared keys of a call, by id. */
export class KeyRing {
  /** @type {Map<number, ArrayBuffer>} */ #secrets = new Map();
  /** The id of the key that is encrypted with, -1 without one. */
  current = -1;

  /** @param {number} id @param {ArrayBuffer} secret */
  set(id, secret) {
    this.#secrets.set(id & 255, secret);
    this.current = id & 255;
  }

  /** Goes on to the next key. */
  async ratchet() {
    const secret = this.#secrets.get(this.current);
    if (secret) this.set(this.current + 1, await ratchet(secret));
  }

  /**
   * The key of an id, if it is here or a few steps ahead of the newest. One that was
   * found by ratcheting is kept only when it has proved itself: see adopt.
   * @param {number} id
   */
  async find(id) {
    const known = this.#secrets.get(id);
    let secret = this.#secrets.get(this.current);
    const steps = (id - this.current) & 255;
    if (known || !secret || steps > RATCHETS) return known;
    for (let i = 0; i < steps; i++) secret = await ratchet(secret);
    return secret;
  }

  /** A frame was opened with a key ahead: what is sent from here on uses it too. @param {number} id @param {ArrayBuffer} secret */
  adopt(id, secret) {
    if (!this.#secrets.has(id)) this.set(id, secret);
  }
}

/** @param {number} counter */
function nonce(counter) {
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(8, counter);
  return iv;
}

/** @param {Uint8Array} a @param {Uint8Array} b */
function join(a, b) {
  const out = new Uint8Array(a.length + b.length);
  out.set(a);
  out.set(b, a.length);
  return out;
}

/** Encrypts what one sender sends, over all its layers. */
export class Encrypter {
  #salt = crypto.getRandomValues(new Uint8Array(SALT));
  #counter = 0;
  #id = -1;
  /** @type {Promise<CryptoKey> | null} */ #key = null;

  /** @param {KeyRing} ring @param {"audio" | "video"} media */
  constructor(ring, media) {
    this.ring = ring;
    this.media = media;
  }

  /** The encrypted frame; null, and nothing is to be sent, without a key or without a frame's header. @param {Uint8Array} frame */
  async encrypt(frame) {
    const id = this.ring.current;
    const clear = clearBytes(this.media, frame);
    if (id < 0 || frame.length < clear) return null;
    if (id !== this.#id || this.#counter >= 0xffffffff) {
      // A key and a salt make one key for this encoder, whose counter never comes again.
      this.#salt = crypto.getRandomValues(new Uint8Array(SALT));
      this.#id = id;
      this.#counter = 0;
      const salt = this.#salt;
      this.#key = this.ring.find(id).then((secret) => frameKey(/** @type {ArrayBuffer} */ (secret), salt, "encrypt"));
    }
    const trailer = new Uint8Array(TRAILER);
    trailer.set(this.#salt);
    const counter = ++this.#counter;
    new DataView(trailer.buffer).setUint32(SALT, counter);
    trailer[TRAILER - 1] = id;
    const head = frame.subarray(0, clear);
    const sealed = await crypto.subtle.encrypt(
      { name: "AES-GCM", iv: nonce(counter), additionalData: join(head, trailer) },
      /** @type {CryptoKey} */ (await this.#key), /** @type {BufferSource} */ (frame.subarray(clear)));
    return join(join(head, new Uint8Array(sealed)), trailer);
  }
}

/** Decrypts what arrives in one seat, whoever sits there. */
export class Decrypter {
  /** @type {Map<string, Promise<CryptoKey>>} */ #keys = new Map();
  /** Frames that could not be opened. */
  failed = 0;
  opened = 0;

  /** @param {KeyRing} ring @param {"audio" | "video"} media */
  constructor(ring, media) {
    this.ring = ring;
    this.media = media;
  }

  /** The frame; null, and nothing is to be played, if it cannot be opened. @param {Uint8Array} frame */
  async decrypt(frame) {
    const clear = clearBytes(this.media, frame);
    const from = frame.length - TRAILER;
    const id = frame[frame.length - 1];
    const secret = from - clear >= TAG && id !== undefined ? await this.ring.find(id) : undefined;
    if (!secret || id === undefined) return this.#fail();
    const trailer = frame.slice(from);
    const head = frame.subarray(0, clear);
    try {
      const iv = nonce(new DataView(trailer.buffer).getUint32(SALT));
      const plain = await crypto.subtle.decrypt(
        { name: "AES-GCM", iv, additionalData: join(head, trailer) },
        await this.#key(secret, trailer.slice(0, SALT), id), /** @type {BufferSource} */ (frame.subarray(clear, from)));
      this.ring.adopt(id, secret);
      this.opened++;
      return join(head, new Uint8Array(plain));
    } catch {
      this.#keys.delete(`${id}/${trailer.subarray(0, SALT)}`); // the ring may have another one by the next frame
      return this.#fail();
    }
  }

  #fail() {
    this.failed++;
    return null;
  }

  /** @param {ArrayBuffer} secret @param {Uint8Array} salt @param {number} id */
  #key(secret, salt, id) {
    const name = `${id}/${salt}`;
    let key = this.#keys.get(name);
    if (!key) {
      if (this.#keys.size >= SALTS) this.#keys.delete(/** @type {string} */ (this.#keys.keys().next().value));
      this.#keys.set(name, (key = frameKey(secret, salt, "decrypt")));
    }
    return key;
  }
}
