import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";

import {
  Assembler, CallError, MAX_CHUNK_BYTES, MAX_DATA_BYTES, REORDER_GAP_MS, REORDER_HELD, Reorder, byteLength, encodeFrame, parseFrame,
  retryDelay, split,
} from "../wire.js";

const golden = new URL("../../shared/signal/testdata/", import.meta.url);

test("golden files: what is read is written the same", () => {
  const names = readdirSync(golden).filter((n) => n.endsWith(".json"));
  assert.ok(names.length > 20, `${names.length} files`);
  for (const name of names) {
    const text = readFileSync(new URL(name, golden), "utf8");
    const frame = parseFrame(text);
    assert.equal(frame.type, name.split(".")[0]);
    const body = "body" in JSON.parse(text) ? frame.body : undefined;
    assert.deepEqual(JSON.parse(encodeFrame(frame.type, frame.seq ?? 0, body)), JSON.parse(text), name);
  }
});

test("parseFrame refuses what is no frame", () => {
  for (const text of ["", "{", "[]", "null", "1", "{}", '{"type":1}', '{"type":""}', '{"type":"x","seq":-1}', '{"type":"x","seq":1.5}',
    '{"type":"x","seq":9007199254740992}']) {
    assert.throws(() => parseFrame(text), (e) => e instanceof CallError && e.code === "bad_message", text);
  }
});

/** @param {any[]} frames */
const seqs = (frames) => frames.map((f) => f.seq ?? 0);

test("reorder: the same table as in Go", () => {
  const G = REORDER_GAP_MS;
  /** @type {[string, [number, number | "expire", number[]][]][]} */
  const table = [
    ["in order", [[0, 1, [1]], [0, 2, [2]]]],
    ["overtaken", [[0, 2, []], [0, 3, []], [1000, 1, [1, 2, 3]]]],
    ["twice at once", [[0, 1, [1]], [0, 1, []]]],
    ["twice while held", [[0, 2, []], [0, 2, []], [0, 1, [1, 2]]]],
    ["unordered passes a gap", [[0, 2, []], [0, 0, [0]], [0, 1, [1, 2]]]],
    ["gap given up", [[0, 2, []], [G - 1, "expire", []], [G, "expire", [2]], [G, 1, []]]],
    ["gap given up by a push", [[0, 2, []], [G, 4, [2]], [G, 3, [3, 4]]]],
    ["second gap has its own time", [[0, 2, []], [1000, 5, []], [G, "expire", [2]], [G + 1000, "expire", [5]]]],
  ];
  for (const [name, steps] of table) {
    const r = new Reorder();
    for (const [at, seq, want] of steps) {
      const got = seq === "expire" ? r.expire(at) : r.push(at, { type: "x", seq });
      assert.deepEqual(seqs(got), want, `${name} at ${at}`);
    }
  }
});

test("reorder: holds no more than its bound", () => {
  const r = new Reorder();
  for (let seq = 2; seq < 2 + REORDER_HELD; seq++) assert.deepEqual(r.push(0, { type: "x", seq }), []);
  const got = r.push(0, { type: "x", seq: 1000 });
  assert.equal(got.length, REORDER_HELD);
  assert.equal(r.deadline(), REORDER_GAP_MS);
});

test("split and Assembler: whatever the text, it comes back", () => {
  for (const text of ["{}", "a".repeat(MAX_CHUNK_BYTES), "a".repeat(MAX_CHUNK_BYTES + 1), "a" + "€".repeat(MAX_CHUNK_BYTES),
    "🙂".repeat(MAX_DATA_BYTES / 4), '"'.repeat(MAX_DATA_BYTES)]) {
    const chunks = split(7, text);
    assert.ok(chunks.every((c) => byteLength(c.data) <= MAX_CHUNK_BYTES && Buffer.from(c.data, "utf8").toString() === c.data));
    const a = new Assembler();
    const out = chunks.map((c) => a.push(JSON.parse(JSON.stringify(c))));
    assert.equal(out.at(-1), text);
    assert.ok(out.slice(0, -1).every((o) => o === null));
  }
  assert.throws(() => split(1, "a".repeat(MAX_DATA_BYTES + 1)), { code: "too_large" });
});

test("Assembler refuses what does not fit, and takes the next frame", () => {
  const begun = { id: 1, index: 0, count: 3, data: "a" };
  /** @type {any[]} */
  const bad = [
    { ...begun }, { id: 2, index: 1, count: 3, data: "b" }, { id: 1, index: 2, count: 3, data: "b" }, { id: 1, index: 1, count: 4, data: "b" },
    { id: 1, index: 1, count: 3, data: "" }, { id: 1, index: 1, count: 3 }, { id: 1, index: 1, count: 3, data: "b".repeat(MAX_CHUNK_BYTES + 1) },
  ];
  for (const chunk of bad) {
    const a = new Assembler();
    a.push(begun);
    assert.throws(() => a.push(chunk), CallError, JSON.stringify(chunk).slice(0, 80));
    assert.equal(a.push({ id: 9, index: 0, count: 1, data: "{}" }), "{}");
  }
});

test("the reconnect schedule", () => {
  const tries = [0, 1, 2, 3, 4, 5, 6, 99];
  assert.deepEqual(tries.map((n) => retryDelay(n, 0)), [0, 0, 0, 0, 0, 0, 0, 0]);
  assert.deepEqual(tries.map((n) => retryDelay(n, 0.5)), [250, 500, 1250, 2500, 5000, 7500, 7500, 7500]);
  assert.ok(tries.every((n) => retryDelay(n, 0.999) < 2 * retryDelay(n, 0.5)));
});

test("a thousand who lose the same thing come back within 30 s through a door for 100 a second", () => {
  let seed = 7; // a linear congruential generator, so that the run can be repeated
  const random = () => (seed = (seed * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
  const waiting = Array.from({ length: 1000 }, () => ({ n: 1, at: retryDelay(0, random()) }));
  const admitted = new Map(); // by 100 ms
  let last = 0;
  while (waiting.length > 0) {
    waiting.sort((a, b) => b.at - a.at);
    const next = /** @type {{n: number, at: number}} */ (waiting.pop());
    const slot = Math.floor(next.at / 100);
    if ((admitted.get(slot) ?? 0) < 10) {
      admitted.set(slot, (admitted.get(slot) ?? 0) + 1);
      last = next.at;
    } else {
      waiting.push({ n: next.n + 1, at: next.at + retryDelay(next.n, random()) });
    }
  }
  assert.ok(last < 30_000, `the last one is back after ${Math.round(last)} ms`);
});
