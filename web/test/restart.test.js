import assert from "node:assert/strict";
import { test } from "node:test";

import { DISCONNECTED_MS } from "../peer.js";
import { LOOK_MS, Pulse, STEADY_LOOKS } from "../pulse.js";
import { golden, inRoom, room } from "./client.js";
import { settle } from "./fakes.js";

test("a path that goes silent is looked for anew, over both channels, before the connection is replaced", async () => {
  const { call, ws, pc, pcs, clock } = await inRoom();
  pc.becomes("disconnected");
  await settle();
  const offer = ws.last("offer");
  assert.ok(offer.body.generation > 1);
  assert.equal(pc.restarts, 1);
  assert.deepEqual(pc.channel.last("offer").body, offer.body, "one of the two gets through");
  ws.says("answer", { generation: offer.body.generation, sdp: "elsewhere" }, 2);
  await settle();
  assert.equal(pc.answer.sdp, "elsewhere");
  await clock.advance(DISCONNECTED_MS - 1);
  assert.equal(call.state, "joined");
  pc.becomes("connected");
  await clock.advance(10 * DISCONNECTED_MS);
  assert.deepEqual([call.state, pcs.length, pc.closed], ["joined", 1, false]);
});

test("with the WebSocket gone too, the restart waits for the next one", async () => {
  const { ws, pc, sockets, clock, pcs } = await inRoom();
  ws.drop();
  pc.becomes("disconnected");
  await clock.advance(250);
  const next = /** @type {any} */ (sockets[1]);
  next.open();
  assert.equal(next.sent[0].type, "watch");
  assert.equal(next.last("offer"), undefined, "nobody has said yet who it is");
  next.says("room", room(1, "live"));
  await settle();
  assert.equal(next.last("offer").body.generation, 2);
  next.says("answer", { ...golden("answer"), generation: 2 }, 1);
  await settle();
  next.drop();
  await clock.advance(500);
  /** @type {any} */ (sockets[2]).open();
  /** @type {any} */ (sockets[2]).says("room", room(1, "live"));
  assert.equal(/** @type {any} */ (sockets[2]).last("offer"), undefined, "it is answered");
  assert.equal(pcs.length, 1);
});

test("a restart that nobody answers: the connection is replaced", async () => {
  const { call, pc, pcs, clock } = await inRoom();
  pc.becomes("disconnected");
  await clock.advance(DISCONNECTED_MS + 250);
  assert.deepEqual([call.state, pcs.length], ["rejoining", 2]);
});

test("silence is noticed after a second, once, and only after a steady flow", () => {
  const p = new Pulse();
  let now = 0;
  let bytes = 0;
  const look = (/** @type {number} */ more) => p.look((now += LOOK_MS), (bytes += more));
  for (let i = 0; i < STEADY_LOOKS - 1; i++) assert.equal(look(100), false);
  assert.deepEqual([look(0), look(0), look(0)], [false, false, false], "it came now and then");
  for (let i = 0; i < STEADY_LOOKS; i++) assert.equal(look(100), false);
  assert.deepEqual([look(0), look(0), look(0), look(0)], [false, true, false, false]);
  assert.equal(look(1), false);
});
