import assert from "node:assert/strict";
import { test } from "node:test";
import { encodings, preferred, sendable, trim } from "../codecs.js";

/** @param {string} mimeType @param {string} [sdpFmtpLine] */
const codec = (mimeType, sdpFmtpLine) => ({ mimeType, clockRate: 90000, ...(sdpFmtpLine && { sdpFmtpLine }) });

// As Chromium lists them.
const BROWSER = [
  codec("video/VP8"), codec("video/rtx"), codec("video/VP9", "profile-id=2"), codec("video/VP9", "profile-id=0"),
  codec("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42001f"),
  codec("video/H264", "level-asymmetry-allowed=1;packetization-mode=0;profile-level-id=42e01f"),
  codec("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
  codec("video/H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"),
  codec("video/AV1", "level-idx=5;profile=1;tier=0"), codec("video/AV1", "level-idx=5;profile=0;tier=0"),
  codec("video/red"), codec("video/ulpfec"),
];

test("a seat offers each codec once, in the profile that every decoder has", () => {
  assert.deepEqual(preferred(BROWSER, "video", ["vp8", "h264", "vp9", "av1"]).map((c) => `${c.mimeType} ${c.sdpFmtpLine ?? ""}`), [
    "video/VP8 ", "video/H264 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    "video/VP9 profile-id=0", "video/AV1 level-idx=5;profile=0;tier=0", "video/rtx ",
  ]);
});

test("an own video has one codec, VP8 where the browser lacks the wanted one", () => {
  for (const wanted of /** @type {const} */ (["vp8", "h264", "vp9", "av1"])) {
    assert.equal(sendable(BROWSER, wanted), wanted);
    assert.equal(preferred(BROWSER, "video", [wanted])[0]?.mimeType.toLowerCase(), `video/${wanted}`);
  }
  assert.equal(sendable([codec("video/VP8"), codec("video/H264", "profile-level-id=64001f;packetization-mode=1")], "h264"), "vp8");
  assert.equal(sendable([], "av1"), "vp8");
  assert.deepEqual(preferred([codec("video/VP9")], "video", ["vp8"]), []);
});

test("simulcast, or layers within one stream", () => {
  for (const c of /** @type {const} */ (["vp8", "h264"])) assert.deepEqual(encodings(c).map((e) => e.rid), ["q", "h", "f"]);
  for (const c of /** @type {const} */ (["vp9", "av1"])) {
    const [one, ...more] = encodings(c);
    assert.equal(/** @type {any} */ (one).scalabilityMode, "L3T3_KEY");
    assert.equal(more.length, 0);
  }
});

test("an offer is trimmed to what the room reads", () => {
  const line = (/** @type {string} */ mid) => [
    "m=video 9 UDP/TLS/RTP/SAVPF 96", "a=rtcp:9 IN IP4 0.0.0.0", "a=candidate:1 1 udp 1 192.0.2.1 1 typ host", "a=end-of-candidates",
    "a=ice-ufrag:u", "a=ice-pwd:p", "a=ice-options:trickle", "a=fingerprint:sha-256 AA", "a=setup:actpass", `a=mid:${mid}`,
    "a=extmap:1 urn:ietf:params:rtp-hdrext:toffset", "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:13 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    "a=rtcp-fb:96 goog-remb", "a=rtcp-fb:96 nack", "a=rtcp-rsize", "a=simulcast:send q;~h;~f",
  ];
  const kept = (/** @type {string} */ mid, /** @type {string[]} */ transport) => [
    "m=video 9 UDP/TLS/RTP/SAVPF 96", ...transport, "a=setup:actpass", `a=mid:${mid}`, "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
    "a=extmap:13 https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    "a=rtcp-fb:96 nack", "a=simulcast:send q;h;f",
  ];
  assert.deepEqual(trim([...line("0"), ...line("1"), ""].join("\r\n")).split("\r\n"),
    [...kept("0", ["a=ice-ufrag:u", "a=ice-pwd:p", "a=fingerprint:sha-256 AA"]), ...kept("1", []), ""]);
});
