import assert from "node:assert/strict";
import { test } from "node:test";

import { Call, VIEW_DEBOUNCE_MS } from "../client.js";
import { JOIN_RETRY_MS } from "../entry.js";
import { CONNECT_MS, DISCONNECTED_MS } from "../peer.js";
import { begin, golden, inRoom, joined, room } from "./client.js";
import { fakeTrack, settle, world } from "./fakes.js";

test("waits while the room starts, joins when it is live, in one round trip", async () => {
  const { call, sockets, pcs, of } = begin();
  call.setTrack("mic", fakeTrack());
  const promise = call.join();
  const ws = /** @type {any} */ (sockets[0]);
  assert.equal(ws.protocol, "mayfly.v1");
  ws.open();
  assert.deepEqual(ws.sent, [{ type: "watch", seq: 1, body: { ticket: "T" } }]);
  ws.says("room", room(1, "starting"));
  await settle();
  assert.equal(call.state, "waiting");
  assert.equal(ws.last("join"), undefined);

  ws.says("room", room(2, "live"));
  await settle();
  const join = ws.last("join");
  assert.equal(join.seq, 2);
  assert.equal(join.body.ticket, "T");
  assert.ok(join.body.attempt.length >= 22);
  const { offer } = join.body;
  assert.ok(!offer.sdp.includes("candidate"), offer.sdp);
  assert.deepEqual(offer.sources.map((/** @type {any} */ s) => [s.kind, s.muted === true]),
    [["mic", false], ["camera", true], ["screen", true], ["screen-audio", true]]);
  assert.deepEqual(offer.seats, [{ seat: 0, audio: "4", video: "5" }, { seat: 1, audio: "6", video: "7" }]);

  ws.says("joined", joined(join), 1);
  assert.equal((await promise).participant, "p_7f3a");
  assert.equal(call.state, "joined");
  assert.deepEqual(pcs[0]?.answer, { type: "answer", sdp: "answer" });
  assert.deepEqual(of("resume"), ["r1.room_01K9ZC.p_7f3a.bmV4dA"]);
  assert.equal(of("seating").at(-1)[0].participant, "p_9c2e");
  assert.deepEqual(of("seating").at(-1)[0].stream.tracks.map((/** @type {any} */ t) => t.kind), ["audio", "video"]);
});

test("the first offer: fixed lines, simulcast in VP8, seats for all codecs", async () => {
  const { pc } = await inRoom();
  const lines = pc.transceivers.map((/** @type {any} */ t) => [t.kind, t.init.direction, t.codecs.map((/** @type {any} */ c) => c.mimeType).join()]);
  assert.deepEqual(lines.slice(0, 6), [
    ["audio", "sendonly", "audio/red,audio/opus"], ["video", "sendonly", "video/VP8,video/rtx"], ["video", "sendonly", "video/VP8,video/rtx"],
    ["audio", "sendonly", "audio/red,audio/opus"], ["audio", "recvonly", "audio/red,audio/opus"], ["video", "recvonly", "video/VP8,video/H264,video/rtx"],
  ]);
  assert.deepEqual(pc.transceivers[1].init.sendEncodings.map((/** @type {any} */ e) => [e.rid, e.scaleResolutionDownBy]), [["q", 4], ["h", 2], ["f", 1]]);
});

test("what may not be published is not offered", async () => {
  const { ws, pc, call } = await inRoom({ publish: ["mic"] });
  assert.deepEqual(ws.last("join").body.offer.sources.map((/** @type {any} */ s) => s.kind), ["mic"]);
  assert.deepEqual(pc.transceivers.map((/** @type {any} */ t) => t.init.direction), ["sendonly", "recvonly", "recvonly", "recvonly", "recvonly"]);
  call.setTrack("camera", fakeTrack());
  assert.equal(pc.channel.last("mute"), undefined);
});

test("a browser that cannot choose codecs joins all the same", async () => {
  const w = world();
  w.env.capabilities = () => null;
  const call = new Call({ ws: "wss://x/", ticket: "T", env: w.env });
  call.join();
  /** @type {any} */ (w.sockets[0]).open();
  /** @type {any} */ (w.sockets[0]).says("room", room(1, "live"));
  await settle();
  assert.deepEqual(w.pcs[0]?.transceivers[0].codecs, []);
  assert.ok(w.sockets[0]?.last("join"));
});

test("an unanswered join is sent again with the same attempt, and answered once", async () => {
  const { call, sockets, pcs, clock } = begin();
  call.join();
  const ws = /** @type {any} */ (sockets[0]);
  ws.open();
  ws.says("room", room(1, "live"));
  await clock.advance(JOIN_RETRY_MS * 2);
  const joins = ws.sent.filter((/** @type {any} */ f) => f.type === "join");
  assert.equal(joins.length, 3);
  assert.deepEqual(new Set(joins.map((/** @type {any} */ j) => j.body.attempt + j.body.offer.generation)).size, 1);
  ws.says("joined", joined(joins[0]), 1);
  await settle();
  // The answer to the repeated join: nothing but the newer secret is of use.
  ws.says("joined", joined(joins[1], { resume: "newer", answer: { generation: joins[1].body.offer.generation, sdp: "other" } }), 2);
  await settle();
  assert.equal(pcs[0]?.answer.sdp, "answer");
  assert.equal(call.resume, "newer");
  assert.equal(pcs.length, 1);
});

test("a WebSocket lost while the join is out: the same join is the next one's first frame", async () => {
  const { call, sockets, clock } = begin();
  call.join();
  /** @type {any} */ (sockets[0]).open();
  /** @type {any} */ (sockets[0]).says("room", room(1, "live"));
  await settle();
  const first = /** @type {any} */ (sockets[0]).last("join");
  /** @type {any} */ (sockets[0]).drop();
  await clock.advance(250);
  const ws = /** @type {any} */ (sockets[1]);
  ws.open();
  assert.deepEqual(ws.sent, [{ ...first, seq: 1 }]);
  ws.says("joined", joined(first), 1);
  await settle();
  assert.equal(call.state, "joined");
  assert.equal(ws.sent.length, 1);
});

test("room_not_live is waited for; room_full and a refused offer end it", async () => {
  const t = begin();
  t.call.join();
  const ws = /** @type {any} */ (t.sockets[0]);
  ws.open();
  ws.says("room", room(1, "live"));
  await settle();
  ws.says("error", { code: "room_not_live", message: "", retryable: true, ref: 2 });
  ws.says("room", room(2, "starting", 2));
  await t.clock.advance(1000);
  assert.equal(ws.sent.filter((/** @type {any} */ f) => f.type === "join").length, 1);
  ws.says("room", room(3, "live", 2));
  await t.clock.advance(0);
  assert.equal(ws.sent.filter((/** @type {any} */ f) => f.type === "join").length, 2);
  assert.deepEqual(t.of("error"), []);

  for (const code of ["room_full", "bad_offer", "ticket_expired"]) {
    const u = begin();
    const promise = u.call.join();
    const s = /** @type {any} */ (u.sockets[0]);
    s.open();
    s.says("room", room(1, "live"));
    await settle();
    s.says("error", { code, message: "no", retryable: code === "room_full" });
    await assert.rejects(promise, { code, retryable: code === "room_full" });
    assert.equal(u.call.state, "failed");
    assert.equal(u.pcs[0]?.closed, true);
    await u.clock.advance(60_000);
    assert.equal(u.sockets.length, 1, "no reconnection after the end");
    assert.equal(u.clock.pending, 0, "no timer left");
  }
});

test("the WebSocket's loss touches no media; it comes back on schedule with the resume secret", async () => {
  const { call, ws, pc, sockets, clock, of } = await inRoom();
  ws.drop();
  assert.equal(call.state, "joined");
  assert.equal(pc.closed, false);
  assert.deepEqual(of("connection").at(-1), { signalling: false, media: true });
  for (const [n, delay] of [250, 500, 1250, 2500, 5000, 7500, 7500].entries()) {
    if (delay > 0) {
      await clock.advance(delay - 1);
      assert.equal(sockets.length, 1 + n, `try ${n} came too early`);
    }
    await clock.advance(1);
    assert.equal(sockets.length, 2 + n, `try ${n}`);
    if (n < 6) /** @type {any} */ (sockets.at(-1)).drop();
  }
  const next = /** @type {any} */ (sockets.at(-1));
  next.open();
  assert.deepEqual(next.sent[0].body, { resume: "r1.room_01K9ZC.p_7f3a.bmV4dA" });
  next.says("room", room(1, "live"));
  await clock.advance(JOIN_RETRY_MS);
  assert.equal(next.last("join"), undefined);
  assert.equal(pc.closed, false);
});

test("pings every 4 minutes; a silent WebSocket is replaced; a planned successor at 110 minutes", async () => {
  const { ws, sockets, clock, pc } = await inRoom();
  for (let min = 4; min < 110; min += 4) {
    await clock.advance(4 * 60_000);
    assert.equal(ws.sent.filter((/** @type {any} */ f) => f.type === "ping" && f.seq === undefined).length, min / 4);
    ws.says("pong");
  }
  await clock.advance(2 * 60_000);
  assert.equal(sockets.length, 2);
  const next = /** @type {any} */ (sockets[1]);
  assert.equal(ws.readyState, 1, "the old one serves until the new one is greeted");
  next.open();
  next.says("room", room(1, "live"));
  assert.equal(ws.readyState, 3);
  await clock.advance(4 * 60_000 + 10_251); // no pong
  assert.equal(sockets.length, 3);
  assert.equal(pc.closed, false);
});

test("a killed task: the new epoch is joined as soon as it is live, over the same tracks", async () => {
  const { call, ws, pc, pcs, clock, of } = await inRoom();
  const mic = fakeTrack();
  call.setTrack("mic", mic);
  call.view([{ source: "p_9c2e/camera", width: 10, height: 10 }]);
  await clock.advance(VIEW_DEBOUNCE_MS);
  ws.says("room", room(2, "starting", 2));
  await settle();
  assert.equal(call.state, "rejoining");
  assert.equal(pcs.length, 2, "its successor is made while the task starts");
  assert.equal(pc.closed, false);
  assert.equal(ws.sent.filter((/** @type {any} */ f) => f.type === "join").length, 1);

  ws.says("room", room(3, "live", 2));
  await settle();
  const join = ws.last("join");
  assert.deepEqual([join.body.resume, join.body.ticket], ["r1.room_01K9ZC.p_7f3a.bmV4dA", undefined]);
  assert.equal(join.body.view.wants.length, 1);
  assert.equal(join.body.offer.sources[0].muted, undefined);
  // A late answer of the dead task, to a join of this generation, is not believed.
  ws.says("joined", joined(join, { epoch: 1, resume: "stale" }), 2);
  await settle();
  assert.equal(call.state, "rejoining");
  // The new task counts its frames from 1 again.
  ws.says("joined", joined(join, { epoch: 2, resume: "second" }), 1);
  await settle();
  assert.equal(call.state, "joined");
  assert.equal(pc.closed, true);
  assert.equal(pcs[1]?.transceivers[0].sender.track, mic);
  assert.deepEqual(of("resume").at(-1), "second");
  assert.deepEqual(of("ended"), []);
});

test("media lost with the task alive: replaced, each time later", async () => {
  const { call, ws, pc, pcs, clock } = await inRoom();
  pc.becomes("disconnected");
  await clock.advance(DISCONNECTED_MS - 1);
  assert.equal(call.state, "joined");
  await clock.advance(1);
  assert.equal(call.state, "rejoining");
  await clock.advance(250);
  assert.equal(pcs.length, 2);
  ws.says("joined", joined(ws.last("join"), { resume: "b" }), 2);
  await settle();
  await clock.advance(CONNECT_MS - 1);
  assert.equal(pcs.length, 2);
  await clock.advance(1); // never connects: the next one has the relay
  assert.equal(pcs.length, 3);
  ws.says("joined", joined(ws.last("join"), { resume: "c" }), 3);
  await settle();
  /** @type {any} */ (pcs[2]).becomes("connected");
  assert.equal(call.state, "joined");
});

test("ended: with rejoin it comes back, without it is over; replaced by itself is not", async () => {
  const a = await inRoom();
  a.pc.channel.says("ended", { reason: "terminated", rejoin: true });
  await a.clock.advance(250);
  assert.equal(a.call.state, "rejoining");
  a.ws.says("ended", { reason: "replaced", rejoin: false });
  assert.equal(a.call.state, "rejoining");
  a.ws.says("joined", joined(a.ws.last("join")), 2);
  await settle();
  a.ws.says("ended", { reason: "replaced", rejoin: false });
  assert.deepEqual(a.of("ended"), [{ reason: "replaced" }]);
  assert.equal(a.pcs[1]?.closed, true);

  const b = await inRoom();
  b.ws.says("room", { ...room(9, "ended"), reason: "max_duration" });
  assert.deepEqual(b.of("ended"), [{ reason: "max_duration" }]);
});

test("the task's frames on the WebSocket: in order from its joined on, errors and states at once", async () => {
  const { ws, of, clock } = await inRoom();
  ws.says("ended", { reason: "deleted", rejoin: false }, 3);
  ws.says("error", { code: "rate_limited", message: "", retryable: true }, 9);
  assert.deepEqual([of("error").length, of("ended").length], [1, 0]);
  await clock.advance(1999);
  assert.equal(of("ended").length, 0, "frame 2 may still come");
  await clock.advance(1);
  assert.deepEqual(of("ended"), [{ reason: "deleted" }]);
});

test("an expired secret does not end media that flows", async () => {
  const { call, ws, pc, of, sockets, clock } = await inRoom();
  ws.says("error", { code: "resume_invalid", message: "", retryable: false });
  assert.equal(call.state, "joined");
  assert.equal(pc.closed, false);
  assert.equal(of("error")[0].code, "resume_invalid");
  await clock.advance(60_000);
  assert.equal(sockets.length, 1);
});

test("views are debounced, the last one wins, and rev grows", async () => {
  const { call, pc, clock } = await inRoom();
  for (const width of [1, 2, 3]) call.view([{ source: "p/camera", width, height: 9 }]);
  await clock.advance(VIEW_DEBOUNCE_MS - 1);
  assert.equal(pc.channel.last("view"), undefined);
  await clock.advance(1);
  assert.deepEqual(pc.channel.sent.filter((/** @type {any} */ f) => f.type === "view"),
    [{ type: "view", body: { rev: 3, wants: [{ source: "p/camera", width: 3, height: 9 }] } }]);
  call.view([{ source: "p/camera", width: 3, height: 9 }]);
  await clock.advance(1000);
  assert.equal(pc.channel.last("view").body.rev, 3, "the same view again is not sent");
});

test("mute: the track is detached and the room told, once; a track comes back", async () => {
  const { call, pc } = await inRoom();
  const mic = fakeTrack();
  const sender = pc.transceivers[0].sender;
  call.setTrack("mic", mic);
  await settle();
  assert.equal(sender.track, mic);
  call.setMuted("mic", true);
  call.setMuted("mic", true);
  await settle();
  assert.deepEqual([sender.track, mic.enabled], [null, false]);
  call.setMuted("mic", false);
  await settle();
  assert.deepEqual([sender.track, mic.enabled], [mic, true]);
  assert.deepEqual(pc.channel.sent.map((/** @type {any} */ f) => f.body),
    [{ kind: "mic", muted: false }, { kind: "mic", muted: true }, { kind: "mic", muted: false }]);
});

test("a silent source's layers rest, and stay in the next offer", async () => {
  const { call, pc } = await inRoom();
  const { sender } = pc.transceivers[1];
  const active = () => sender.encodings.map((/** @type {any} */ e) => e.active).join();
  call.setTrack("camera", fakeTrack());
  await settle();
  assert.equal(active(), "true,true,true");
  call.setTrack("camera", null);
  await settle();
  assert.equal(active(), "false,false,false");
  await call.grow(9); // the fake's description has layers that rest
  assert.match(pc.channel.last("offer").body.sdp, /a=simulcast:send q;h;f\r\n/);
  call.setTrack("camera", fakeTrack());
  await settle();
  assert.equal(active(), "true,true,true");
});

test("what changed while joining is told when the channel opens", async () => {
  const { call, sockets, pcs } = begin();
  const promise = call.join();
  const ws = /** @type {any} */ (sockets[0]);
  ws.open();
  ws.says("room", room(1, "live"));
  await settle();
  call.setTrack("camera", fakeTrack());
  ws.says("joined", joined(ws.last("join")), 1);
  await promise;
  const { channel } = /** @type {any} */ (pcs[0]);
  channel.open();
  assert.deepEqual(channel.sent, [{ type: "mute", body: { kind: "camera", muted: false } }]);
});

test("people, seats, chat and speakers over the data channel", async () => {
  const { call, pc, of } = await inRoom();
  pc.channel.says("participants", golden("participants"));
  assert.deepEqual([...call.participants.keys()], ["p_1d4b"]);
  pc.channel.says("participants", { rev: 6, upsert: [{ id: "p_7f3a", identity: "", name: "", sources: [] }] });
  assert.equal(call.participants.size, 1, "oneself is not among the others");
  pc.channel.says("seating", golden("seating"));
  assert.deepEqual(call.seating.map((s) => [s.seat, s.paused]), [[0, undefined], [1, "bandwidth"]]);
  pc.channel.says("seating", { rev: 1, seats: [] });
  assert.equal(call.seating.length, 2, "an older seating is ignored");
  pc.channel.says("chat", golden("chat.sent"));
  assert.equal(of("chat")[0].from, "p_9c2e");
  pc.channel.says("speakers", golden("speakers"));
  assert.equal(of("speakers")[0].active, "p_9c2e");
  call.chat("hi");
  assert.deepEqual(pc.channel.last("chat").body, { text: "hi" });
  assert.throws(() => call.chat("x".repeat(5000)), { code: "too_large" });
});

test("more than 8 seats follow in a second offer over the data channel, in chunks when it is long", async () => {
  const { call, ws, pc } = await inRoom({ seats: 12 });
  assert.equal(ws.last("join").body.offer.seats.length, 8);
  const offer = pc.channel.last("offer").body;
  assert.deepEqual([offer.generation, offer.seats.length], [2, 12]);
  pc.channel.says("answer", { generation: 2, sdp: "more" });
  await settle();
  assert.equal(pc.answer.sdp, "more");
  pc.createOffer = async () => ({ type: "offer", sdp: "x".repeat(40_000) });
  await call.grow(14);
  const chunks = pc.channel.sent.filter((/** @type {any} */ f) => f.type === "chunk").map((/** @type {any} */ f) => f.body);
  assert.equal(chunks.length, 4);
  const whole = JSON.parse(chunks.map((/** @type {any} */ c) => c.data).join(""));
  assert.deepEqual([whole.type, whole.body.generation, whole.body.seats.length], ["offer", 3, 14]);
});

test("an offer over one frame is refused before it is sent", async () => {
  const w = world();
  w.env.RTCPeerConnection.prototype.createOffer = async () => ({ type: "offer", sdp: "x".repeat(33_000) });
  const call = new Call({ ws: "wss://x/", ticket: "T", env: w.env });
  const promise = call.join();
  await settle();
  /** @type {any} */ (w.sockets[0]).open();
  assert.deepEqual(w.sockets[0]?.sent.map((f) => f.type), ["watch"]);
  /** @type {any} */ (w.sockets[0]).says("room", room(1, "live"));
  await assert.rejects(promise, { code: "offer_too_large" });
  assert.equal(w.sockets[0]?.last("join"), undefined);
});

test("leave tells the room and leaves nothing behind", async () => {
  const { call, ws, pc, clock, of } = await inRoom();
  await call.leave();
  assert.equal(pc.channel.last("leave").body.reason, "left");
  assert.ok(pc.closed && ws.readyState === 3);
  assert.deepEqual(of("ended"), [{ reason: "left" }]);
  assert.equal(clock.pending, 0);
});

test("a service that cannot be reached is given up after 10 tries", async () => {
  const { call, sockets, clock } = begin();
  const promise = call.join();
  for (let i = 0; i < 11; i++) {
    /** @type {any} */ (sockets.at(-1)).drop();
    await clock.advance(7500);
  }
  await assert.rejects(promise, { code: "signalling_lost", retryable: true });
  assert.equal(sockets.length, 11);
});

test("a call needs one secret, and WebRTC", () => {
  const { env } = world();
  assert.throws(() => new Call({ ws: "wss://x/", env }), { code: "bad_message" });
  assert.throws(() => new Call({ ws: "wss://x/", ticket: "a", resume: "b", env }), { code: "bad_message" });
  assert.throws(() => new Call({ ws: "wss://x/", ticket: "a" }), { code: "unsupported" });
});
