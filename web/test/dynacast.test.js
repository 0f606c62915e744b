import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { lower, tune } from "../dynacast.js";
import { inRoom } from "./client.js";
import { fakeTrack, settle } from "./fakes.js";

/** @import { Publish } from "../types.js" */

/** @param {number} layers @param {string[]} [rids] @returns {Publish} */
const wanted = (layers, rids) => ({ kind: "camera", layers, ...(rids && { rids }) });

/** @param {boolean[]} active */
const simulcast = (active = [true, true, true]) => ["q", "h", "f"].map((rid, i) => ({ rid, active: active[i] ?? true }));

test("tune: what nobody looks at rests, and what is muted rests anyhow", () => {
  for (const { name, sending, want, active } of [
    { name: "not told yet", sending: true, want: null, active: [true, true, true] },
    { name: "two layers", sending: true, want: wanted(2, ["q", "h"]), active: [true, true, false] },
    { name: "nobody looks", sending: true, want: wanted(0), active: [false, false, false] },
    { name: "no track, although somebody looks", sending: false, want: wanted(3, ["q", "h", "f"]), active: [false, false, false] },
  ]) {
    const encodings = simulcast();
    const changed = tune(encodings, sending, want, new Map());
    assert.deepEqual(encodings.map((e) => e.active), active, name);
    assert.equal(changed, active.includes(false), name);
    assert.equal(tune(encodings, sending, want, new Map()), false, `${name}, again`);
  }
  const woken = simulcast([false, false, false]);
  assert.ok(tune(woken, true, wanted(3, ["q", "h", "f"]), new Map()));
  assert.deepEqual(woken.map((e) => e.active), [true, true, true]);
});

test("tune: a single encoding pauses as a whole, and keeps the lowest of its spatial layers", () => {
  const screen = [/** @type {any} */ ({})];
  assert.ok(tune(screen, true, wanted(0), new Map()));
  assert.equal(screen[0].active, false);
  assert.ok(tune(screen, true, wanted(1), new Map()));
  assert.equal(screen[0].active, true);

  const modes = new Map();
  const svc = [/** @type {any} */ ({ scalabilityMode: "L3T3_KEY" })];
  for (const [layers, mode] of /** @type {[number, string][]} */ ([[1, "L1T3"], [2, "L2T3_KEY"], [0, "L2T3_KEY"], [3, "L3T3_KEY"]])) {
    tune(svc, true, wanted(layers), modes);
    assert.equal(svc[0].scalabilityMode, mode, `${layers} layers`);
    assert.equal(svc[0].active ?? true, layers > 0);
  }
});

test("lower: only the number of spatial layers changes", () => {
  for (const [mode, layers, want] of /** @type {[string, number, string][]} */ ([
    ["L3T3_KEY", 2, "L2T3_KEY"], ["L3T3_KEY", 1, "L1T3"], ["L3T3_KEY", 3, "L3T3_KEY"], ["L1T3", 1, "L1T3"], ["L2T2h", 1, "L1T2"], ["S2T1", 1, "S2T1"], ["", 1, ""],
  ])) {
    assert.equal(lower(mode, layers), want, mode);
  }
});

test("the room's word reaches the sender, and outlives a muted camera but not a connection", async () => {
  const { call, clock, pcs, pc } = await inRoom();
  const golden = JSON.parse(readFileSync(new URL("../../shared/signal/testdata/publish.json", import.meta.url), "utf8")).body;
  const active = (/** @type {any} */ of) => of.transceivers[1].sender.encodings.map((/** @type {any} */ e) => e.active);
  call.setTrack("camera", fakeTrack());
  await settle();
  assert.deepEqual(active(pc), [true, true, true]);
  pc.channel.says("publish", golden);
  await settle();
  assert.deepEqual(active(pc), [true, true, false]);
  call.setTrack("camera", null);
  await settle();
  assert.deepEqual(active(pc), [false, false, false]);
  call.setTrack("camera", fakeTrack());
  await settle();
  assert.deepEqual(active(pc), [true, true, false]);
  pc.becomes("failed");
  await clock.advance(300);
  assert.deepEqual(active(/** @type {any} */ (pcs[1])), [true, true, true], "the next connection has not been told");
});
