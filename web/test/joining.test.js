import assert from "node:assert/strict";
import { test } from "node:test";

import { begin, inRoom, joined, room } from "./client.js";
import { fakeTrack, settle } from "./fakes.js";

test("an offer that is ready goes out with the first frame; a room that is not live is waited for", async () => {
  const { call, sockets, pcs } = begin();
  call.setTrack("mic", fakeTrack());
  call.view([], { width: 640, height: 360 });
  const promise = call.join();
  const ws = /** @type {any} */ (sockets[0]);
  await settle(); // the offer is made while the socket opens
  ws.open();
  assert.deepEqual(ws.sent.map((/** @type {any} */ f) => [f.type, f.seq]), [["join", 1]]);
  assert.deepEqual(ws.sent[0].body.view, { rev: 1, wants: [], others: { width: 640, height: 360 } });
  ws.says("room", room(1, "starting"));
  ws.says("error", { code: "room_not_live", message: "", retryable: true, ref: 1 });
  await settle();
  assert.equal(call.state, "waiting");
  ws.says("room", room(2, "live"));
  await settle();
  assert.deepEqual(ws.sent.map((/** @type {any} */ f) => f.type), ["join", "join"]);
  assert.equal(ws.sent[1].body.attempt, ws.sent[0].body.attempt);
  ws.says("joined", joined(ws.sent[1]), 1);
  await promise;
  assert.equal(pcs.length, 1);
});

test("prepared: the offer is there before the call is wanted, and says what is true when it is sent", async () => {
  const { call, sockets, pcs } = begin();
  call.watch();
  const ws = /** @type {any} */ (sockets[0]);
  ws.open();
  ws.says("room", room(1, "live"));
  call.prepare();
  call.prepare();
  await settle();
  assert.equal(pcs.length, 1);
  assert.equal(ws.last("join"), undefined, "nobody has asked to join");
  call.setTrack("camera", fakeTrack());
  call.join();
  const { offer } = ws.last("join").body;
  assert.deepEqual(offer.sources.map((/** @type {any} */ s) => [s.kind, s.muted === true]),
    [["mic", true], ["camera", false], ["screen", true], ["screen-audio", true]]);
  assert.equal(pcs.length, 1);
});

test("a prepared offer ages, and does not outlive its network or its call", async () => {
  const { call, clock, pcs, sockets } = begin();
  call.watch();
  sockets[0]?.open();
  sockets[0]?.says("room", room(1, "starting"));
  call.prepare();
  await settle();
  call.nudge();
  await settle();
  assert.deepEqual(pcs.map((pc) => pc.closed), [true, false]);
  await clock.advance(301_000);
  call.join();
  await settle();
  assert.deepEqual(pcs.map((pc) => pc.closed), [true, true, false]);
  await call.leave();
  assert.deepEqual(pcs.map((pc) => pc.closed), [true, true, true]);
  call.prepare();
  assert.equal(pcs.length, 3, "the call is over");
});

test("the answer is taken before the page is told", async () => {
  const t = await inRoom();
  /** @type {any[]} */ const seen = [];
  t.call.on("joined", () => seen.push(t.pcs[1]?.answer?.sdp));
  t.pc.becomes("failed");
  await t.clock.advance(300);
  t.ws.says("joined", joined(t.ws.last("join")), 2);
  await settle();
  assert.deepEqual(seen, ["answer"]);
});
