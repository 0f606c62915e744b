import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { Decrypter, Encrypter, KeyRing, clearBytes, ratchet, readKey } from "../frame-crypto.js";

const KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
const bytes = (/** @type {string} */ key) => /** @type {ArrayBuffer} */ (/** @type {Uint8Array} */ (readKey(key)).buffer);

/** @param {[number, string][]} keys */
function ring(...keys) {
  const r = new KeyRing();
  for (const [id, key] of keys) r.set(id, bytes(key));
  return r;
}

const keyframe = Uint8Array.from({ length: 300 }, (_, i) => (i === 0 ? 0x50 : i));
const delta = Uint8Array.from({ length: 200 }, (_, i) => (i === 0 ? 0x51 : i));
const sound = Uint8Array.from({ length: 80 }, (_, i) => 255 - i);

test("what the room reads stays clear, and nothing else", async () => {
  for (const [media, frame, clear] of /** @type {const} */ ([["video", keyframe, 10], ["video", delta, 3], ["audio", sound, 0]])) {
    assert.equal(clearBytes(media, frame), clear);
    const sealed = /** @type {Uint8Array} */ (await new Encrypter(ring([0, KEY]), media).encrypt(frame));
    assert.deepEqual(sealed.slice(0, clear), frame.slice(0, clear));
    assert.equal(sealed.length, frame.length + 16 + 13);
    assert.ok(!Buffer.from(sealed).includes(Buffer.from(frame.slice(clear, clear + 8))), "plaintext in the frame");
    assert.deepEqual(await new Decrypter(ring([0, KEY]), media).decrypt(sealed), frame);
  }
  assert.equal(await new Encrypter(ring([0, KEY]), "video").encrypt(Uint8Array.of(0, 1, 2)), null, "shorter than what stays clear");
});

test("without the key nothing is sent and nothing is played; a changed byte anywhere is noticed", async () => {
  assert.equal(await new Encrypter(new KeyRing(), "video").encrypt(keyframe), null);
  const sealed = /** @type {Uint8Array} */ (await new Encrypter(ring([0, KEY]), "video").encrypt(delta));
  for (const r of [new KeyRing(), ring([0, KEY.replace("M", "N")])]) {
    const d = new Decrypter(r, "video");
    assert.equal(await d.decrypt(sealed), null);
    assert.deepEqual([d.failed, d.opened], [1, 0]);
  }
  const d = new Decrypter(ring([0, KEY]), "video");
  for (let i = 1; i < sealed.length; i++) {
    const changed = sealed.slice();
    changed[i] = /** @type {number} */ (changed[i]) ^ 1;
    assert.equal(await d.decrypt(changed), null, `byte ${i}`);
  }
  for (const short of [new Uint8Array(0), sealed.slice(0, 5), sealed.slice(0, 31), delta]) assert.equal(await d.decrypt(short), null);
  assert.deepEqual(await d.decrypt(sealed), delta);
});

test("no key meets a counter twice: not over frames, encoders, or keys", async () => {
  const seen = new Set();
  const trailers = async (/** @type {Encrypter} */ e, /** @type {number} */ n) => {
    for (let i = 0; i < n; i++) {
      const sealed = /** @type {Uint8Array} */ (await e.encrypt(sound));
      const trailer = sealed.slice(-13).join();
      assert.ok(!seen.has(trailer));
      seen.add(trailer);
    }
  };
  const r = ring([0, KEY]);
  const [a, b] = [new Encrypter(r, "audio"), new Encrypter(r, "audio")];
  await trailers(a, 50);
  await trailers(b, 50);
  r.set(1, bytes(KEY));
  await trailers(a, 50);
});

test("a new key, by id or by ratchet; what comes late is still opened", async () => {
  const [mine, theirs] = [ring([0, KEY]), ring([0, KEY])];
  const e = new Encrypter(mine, "audio"), d = new Decrypter(theirs, "audio");
  const late = /** @type {Uint8Array} */ (await e.encrypt(sound));
  await mine.ratchet();
  await mine.ratchet();
  const ahead = /** @type {Uint8Array} */ (await e.encrypt(sound));
  assert.equal(ahead.at(-1), 2);
  assert.deepEqual(await d.decrypt(ahead), sound, "two steps ahead");
  assert.equal(theirs.current, 2, "goes along");
  assert.deepEqual(await d.decrypt(late), sound);
  mine.set(200, bytes(KEY.replace("M", "N")));
  const other = /** @type {Uint8Array} */ (await e.encrypt(sound));
  assert.equal(await d.decrypt(other), null, "a key from elsewhere");
  assert.equal(theirs.current, 2, "a frame that cannot be opened moves nothing");
  theirs.set(200, bytes(KEY.replace("M", "N")));
  assert.deepEqual(await d.decrypt(other), sound);
  // Who came in between has the ratcheted key alone, and opens nothing from before.
  const newcomer = new KeyRing();
  newcomer.set(2, await ratchet(await ratchet(bytes(KEY))));
  assert.equal(await new Decrypter(newcomer, "audio").decrypt(late), null);
  assert.deepEqual(await new Decrypter(newcomer, "audio").decrypt(ahead), sound);
});

test("keys: base64url of at least 16 bytes", () => {
  for (const bad of ["", "short", "a".repeat(21), "a".repeat(200), "=".repeat(30), "ä".repeat(30)]) assert.equal(readKey(bad), null, bad);
  assert.equal(readKey("a".repeat(22))?.length, 16);
});

test("frames that another implementation can open: the vectors that Go reads too", async () => {
  const golden = JSON.parse(readFileSync(new URL("../../roomtask/ingest/testdata/e2ee.json", import.meta.url), "utf8"));
  assert.ok(golden.frames.length >= 3);
  for (const f of golden.frames) {
    const d = new Decrypter(ring([golden.id, golden.key]), f.media);
    assert.deepEqual(await d.decrypt(Uint8Array.from(Buffer.from(f.sealed, "hex"))), Uint8Array.from(Buffer.from(f.plain, "hex")));
  }
});
