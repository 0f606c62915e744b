// Which codecs an offer holds, and how an own video is encoded. Pure.

/** @import { VideoCodec } from "./types.js" */

/** Simulcast layers, lowest first. @type {RTCRtpEncodingParameters[]} */
export const LAYERS = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_500_000 },
];

/** What the room forwards, in the order of a seat's offer. @type {VideoCodec[]} */
export const VIDEO = ["vp8", "h264", "vp9", "av1"];

/**
 * How a camera is encoded: three simulcast layers, or with the codecs that can, one
 * stream of three spatial layers, which costs the encoder and the uplink less. A
 * browser that does not know scalabilityMode sends one layer.
 * @param {VideoCodec} codec @returns {RTCRtpEncodingParameters[]}
 */
export function encodings(codec) {
  if (codec === "vp8" || codec === "h264") return LAYERS.map((l) => ({ ...l }));
  return [/** @type {any} */ ({ scalabilityMode: "L3T3_KEY", maxBitrate: 1_500_000 })];
}

/**
 * Whether the room forwards a codec of these parameters: H.264 of Constrained Baseline
 * in packetization mode 1, VP9 and AV1 of profile 0.
 * @param {RTCRtpCodec} c
 */
function usable({ mimeType, sdpFmtpLine = "" }) {
  const get = (/** @type {string} */ key) => new RegExp(`(?:^|;)\\s*${key}=([^;]*)`, "i").exec(sdpFmtpLine)?.[1] ?? "";
  switch (mimeType.toLowerCase()) {
    case "video/h264": return sdpFmtpLine === "" || (get("packetization-mode") === "1" && /^42[4-7c-f]/i.test(get("profile-level-id")));
    case "video/vp9": return Number(get("profile-id")) === 0;
    case "video/av1": return Number(get("profile")) === 0;
  }
  return true;
}

/**
 * The codecs to offer of those that a browser has, each once: of audio, Opus with its
 * redundancy (RFC 2198), which Firefox lacks; of video, the wanted ones with their
 * retransmission. Empty if the first choice is missing: then the browser offers all it
 * has, of which the room takes what it forwards.
 * @template {RTCRtpCodec} T
 * @param {T[]} all @param {"audio" | "video"} media @param {VideoCodec[]} video
 * @param {boolean} [red] whether Opus may be redundant: what is encrypted is not, since the room could not take it apart
 * @returns {T[]}
 */
export function preferred(all, media, video, red = true) {
  const wanted = media === "audio" ? [...(red ? ["audio/red"] : []), "audio/opus"] : [...video.map((v) => `video/${v}`), "video/rtx"];
  /** @type {T[]} */ const list = [];
  for (const type of wanted) {
    const found = all.find((c) => c.mimeType.toLowerCase() === type && usable(c));
    if (found) list.push(found);
  }
  const main = media === "audio" ? "audio/opus" : `video/${video[0]}`;
  return list.some((c) => c.mimeType.toLowerCase() === main) ? list : [];
}

/**
 * The first of the wanted codecs and VP8 that a browser can send.
 * @param {RTCRtpCodec[]} all @param {VideoCodec} wanted @returns {VideoCodec}
 */
export const sendable = (all, wanted) => (preferred(all, "video", [wanted]).length > 0 ? wanted : "vp8");

/** Header extensions that the room reads or sends. */
const EXTENSIONS = /sdes:mid|sdes:rtp-stream-id|sdes:repaired-rtp-stream-id|ssrc-audio-level|transport-wide-cc-extensions-01|dependency-descriptor/;

/**
 * Takes out of an offer what the room would leave out of it, so that eight seats of
 * four codecs fit a frame: candidates, which would also tell it addresses of the local
 * network, header extensions and feedback that it does not use, and what lines of a
 * bundle repeat of its transport. Layers that rest stay agreed upon.
 * @param {string} sdp
 */
export function trim(sdp) {
  const seen = new Set();
  return sdp.split("\r\n").filter((line) => {
    if (/^a=(candidate:|end-of-candidates|ice-options:|rtcp:|rtcp-rsize|rtcp-fb:\d+ goog-remb)/.test(line)) return false;
    if (line.startsWith("a=extmap:")) return EXTENSIONS.test(line);
    if (!/^a=(ice-ufrag|ice-pwd|fingerprint):/.test(line)) return true;
    return !seen.has(line) && seen.add(line);
  }).join("\r\n").replace(/^a=simulcast:.*$/gm, (line) => line.replaceAll("~", ""));
}
