import assert from "node:assert/strict";
import { test } from "node:test";

import { LINGER_MS, LOOK_MS, SETTLE_MS, ready } from "../move.js";
import { Roster } from "../roster.js";
import { golden, inRoom, joined, room } from "./client.js";
import { fakeTrack, settle } from "./fakes.js";

/** A call whose task is going, up to the answer of the next one. */
async function moving() {
  const t = await inRoom();
  t.pc.channel.says("moved", golden("moved"));
  t.ws.says("room", room(2, "starting", 2));
  await settle();
  t.ws.says("room", room(3, "live", 2));
  await settle();
  const join = t.ws.last("join");
  t.ws.says("joined", joined(join, { epoch: 2, resume: "second" }), 1);
  await settle();
  return { ...t, next: /** @type {any} */ (t.pcs[1]), join };
}

test("the room moves: the old connection plays until the new one brings everything", async () => {
  const { call, pc, next, pcs, clock, of, join } = await moving();
  assert.equal(join.body.resume, "r1.room_01K9ZC.p_7f3a.bmV4dA");
  assert.deepEqual(of("state").slice(-1), ["joined"], "nobody is told of a loss");
  assert.equal(call.peerConnection, pc);
  assert.equal(pc.closed, false);
  assert.deepEqual(of("resume").at(-1), "second");
  const mic = fakeTrack();
  call.setTrack("mic", mic);
  await settle();
  assert.deepEqual([pc, next].map((p) => p.transceivers[0].sender.track), [mic, mic], "it says the same at both");

  await clock.advance(SETTLE_MS);
  assert.equal(call.peerConnection, pc, "the new one is not up");
  next.becomes("connected");
  next.channel.open();
  next.channel.says("participants", { rev: 2, remove: ["p_9c2e"] });
  await clock.advance(LOOK_MS);
  assert.equal(call.peerConnection, pc, "somebody is still to come");
  pc.channel.says("chat", { text: "old", from: "p_9c2e", at_ms: 1 });
  next.channel.says("chat", { text: "new", from: "p_9c2e", at_ms: 2 });
  assert.deepEqual(of("chat").map((c) => c.text), ["old", "new"]);
  next.channel.says("participants", { rev: 3, upsert: golden("joined").participants });
  await clock.advance(LOOK_MS);
  assert.equal(call.peerConnection, next);
  assert.equal(pc.channel.last("leave").body.reason, "moved");
  assert.equal(next.channel.last("mute").body.muted, false, "the new task knows of what changed since the join");
  assert.equal(pc.closed, false, "others may still be there");
  await clock.advance(LINGER_MS);
  assert.equal(pc.closed, true);
  assert.equal(pcs.length, 2);
  assert.deepEqual(of("state").slice(-1), ["joined"]);
});

test("who does not come is not waited for", async () => {
  const { call, next, clock } = await moving();
  next.becomes("connected");
  next.channel.open();
  next.channel.says("participants", { rev: 2, remove: ["p_9c2e"] });
  await clock.advance(SETTLE_MS - LOOK_MS);
  assert.notEqual(call.peerConnection, next);
  await clock.advance(3 * LOOK_MS);
  assert.equal(call.peerConnection, next);
});

test("a new connection that fails is made again while the old one plays; an old one that fails is not waited for", async () => {
  const { call, pc, next, pcs, ws, clock } = await moving();
  next.becomes("failed");
  await clock.advance(1000);
  assert.equal(call.peerConnection, pc);
  assert.equal(next.closed, true);
  assert.equal(pcs.length, 3);
  ws.says("joined", joined(ws.last("join"), { epoch: 2, resume: "third" }), 2);
  await settle();
  pc.becomes("failed");
  assert.equal(call.peerConnection, pcs[2]);
  assert.equal(call.state, "joined");
});

test("the room's word may come before the task's; leaving leaves both", async () => {
  const { call, pc, ws, pcs } = await inRoom();
  ws.says("room", room(2, "starting", 2));
  pc.channel.says("moved", golden("moved"));
  assert.equal(call.state, "joined");
  ws.says("room", room(3, "live", 2));
  await settle();
  ws.says("joined", joined(ws.last("join"), { epoch: 2 }), 1);
  await settle();
  assert.equal(pc.closed, false);
  await call.leave();
  assert.deepEqual(pcs.map((p) => p.closed), [true, true]);
});

test("ready: everybody has come, and the pictures that were shown have begun or are paused", () => {
  const roster = (/** @type {string[]} */ ...ids) => {
    const r = new Roster();
    r.change({ upsert: ids.map((id) => /** @type {any} */ ({ id })) });
    return r;
  };
  const seat = (/** @type {string} */ video, /** @type {boolean} */ muted, paused = "") =>
    /** @type {any} */ ({ seat: 3, video, paused, stream: { getVideoTracks: () => [{ muted }] } });
  const both = roster("a", "b");
  const camera = seat("a/camera", false);
  for (const [name, is, old, next, decoded, want] of /** @type {[string, Roster, any[], any[], number[], boolean][]} */ ([
    ["nobody shown", both, [], [], [], true],
    ["somebody is missing", roster("a"), [], [], [], false],
    ["somebody more", roster("a", "b", "c"), [], [], [], true],
    ["shown there, not here", both, [camera], [], [3], false],
    ["seated, nothing decoded", both, [camera], [camera], [], false],
    ["another seat's is", both, [camera], [camera], [2], false],
    ["it is decoded", both, [camera], [camera], [3], true],
    ["it is paused here", both, [camera], [seat("a/camera", true, "bandwidth")], [], true],
    ["it never came there", both, [seat("a/camera", true)], [], [], true],
  ])) assert.equal(ready(both, is, old, next, new Set(decoded)), want, name);
});
