// One PeerConnection of a call: own sources on fixed m-lines, seats to receive
// over, and the data channel. A path that has gone is looked for anew (restart); a lost
// connection is replaced by a new Peer over the same local tracks; client.js decides when.

import { VIDEO, encodings, preferred, sendable, trim } from "./codecs.js";
import { tune } from "./dynacast.js";
import { Pulse } from "./pulse.js";
import { summarize } from "./stats.js";
import { newest, reached } from "./ways.js";
import {
  Assembler, CHANNEL, CallError, MAX_PLAIN_BYTES, byteLength, encodeFrame, parseFrame, split,
} from "./wire.js";

/** @import { Marks } from "./stats.js" */
/** @import { Answer, Env, Frame, Kind, Local, Offer, Publish, VideoCodec } from "./types.js" */

/** @type {Kind[]} In the order of the first offer's m-lines. */
export const KINDS = ["mic", "camera", "screen", "screen-audio"];

/** @type {Record<Kind, RTCRtpEncodingParameters[]>} */
const ENCODINGS = {
  mic: [{ maxBitrate: 40_000 }],
  camera: [], // by its codec
  screen: [{ maxBitrate: 2_500_000 }],
  "screen-audio": [{ maxBitrate: 96_000 }],
};

/** Disconnected for this long, while the room can be asked, counts as lost: ICE itself would take 15 to 30 s to say so. */
export const DISCONNECTED_MS = 4000;
/** The same while nothing at all gets through. The room keeps a place for 30 s. */
export const GONE_MS = 25_000;
const JUDGE_MS = 500;
/** From the answer to connected. */
export const CONNECT_MS = 10_000;

/**
 * @typedef {object} PeerEvents
 * @property {() => number} generation counts offers, over all peers of a call
 * @property {(frame: Frame) => void} frame a frame from the data channel, whole
 * @property {() => void} open the data channel is open
 * @property {(connected: boolean) => void} media
 * @property {() => void} suspect nothing has come for a moment
 * @property {() => void} silent nothing comes any more: another path may be needed
 * @property {() => void} back it comes again, after any of the two
 * @property {() => boolean} alone whether nothing else gets through to the room either
 * @property {() => void} lost this connection will not come (back)
 */

export class Peer {
  /** @type {RTCPeerConnection} */ pc;
  /** @type {Map<number, {audio: RTCRtpTransceiver, video: RTCRtpTransceiver, stream: MediaStream}>} */
  seats = new Map();
  generation = 0;
  closed = false;
  /** The room's relay, for the next restart. @type {RTCIceServer[]} */ servers = [];

  /** @type {Map<Kind, RTCRtpTransceiver>} */ #senders = new Map();
  /** @type {Map<Kind, Promise<void>>} */ #swaps = new Map(); // changes of a kind's sender run one by one
  /** @type {Map<Kind, Publish>} */ #wanted = new Map(); // what the room wants of it; absent: all
  /** @type {Map<Kind, Map<string, string>>} */ #modes = new Map(); // scalability modes, as they began
  /** @type {RTCDataChannel} */ #channel;
  #answers = 0; // taken
  #assembler = new Assembler();
  #chunkId = 0;
  /** @type {Marks | null} */ #marks = null;
  /** @type {any} */ #timer = null;
  #lostAt = 0; // when the wait for a path began, that #timer judges
  #until = 0; // and when it ends
  /** @type {any} */ #watch = null; // since it was connected
  #pulse = new Pulse();
  /** @type {(nothing: null) => void} */ #end = () => {};
  /** @type {Promise<null>} */ #ended = new Promise((resolve) => (this.#end = resolve));

  /**
   * @param {Env} env
   * @param {Record<Kind, Local>} local
   * @param {Kind[]} kinds that may be published
   * @param {number} seats
   * @param {PeerEvents} on
   * @param {VideoCodec} codec of the own videos, where the browser has it
   * @param {RTCIceServer[]} iceServers that the first offer may use
   */
  constructor(env, local, kinds, seats, on, codec = "vp8", iceServers = []) {
    this.env = env;
    this.on = on;
    this.pc = new env.RTCPeerConnection({ bundlePolicy: "max-bundle", ...(iceServers.length > 0 && { iceServers }) });
    this.#channel = this.pc.createDataChannel(CHANNEL, { ordered: true });
    this.#channel.onopen = () => this.closed || on.open();
    this.#channel.onmessage = (e) => this.#receive(e.data);
    this.pc.onconnectionstatechange = () => this.#changed();
    const own = env.e2ee ? "vp8" : sendable((env.sendable ?? env.capabilities)("video")?.codecs ?? [], codec);
    for (const kind of KINDS.filter((k) => kinds.includes(k))) {
      const media = kind === "mic" || kind === "screen-audio" ? "audio" : "video";
      const transceiver = this.pc.addTransceiver(media, { direction: "sendonly", sendEncodings: kind === "camera" ? encodings(own) : ENCODINGS[kind] });
      this.#prefer(transceiver, media, [own]);
      env.e2ee?.encrypt(transceiver.sender, media);
      this.#senders.set(kind, transceiver);
      this.attach(kind, local[kind]);
    }
    this.#addSeats(seats);
  }

  /** Adds seats up to n in all. Takes effect with the next offer. @param {number} n */
  #addSeats(n) {
    for (let seat = this.seats.size; seat < n; seat++) {
      const audio = this.pc.addTransceiver("audio", { direction: "recvonly" });
      const video = this.pc.addTransceiver("video", { direction: "recvonly" });
      this.#prefer(audio, "audio", VIDEO);
      this.#prefer(video, "video", VIDEO);
      this.env.e2ee?.decrypt(audio.receiver, "audio");
      this.env.e2ee?.decrypt(video.receiver, "video");
      const stream = new this.env.MediaStream([audio.receiver.track, video.receiver.track]);
      this.seats.set(seat, { audio, video, stream });
    }
  }

  /**
   * Offers what the room forwards, of video the given codecs. An own source is sent with
   * the first. A browser without the call offers all it has, which the room accepts.
   * @param {RTCRtpTransceiver} transceiver @param {"audio" | "video"} media @param {VideoCodec[]} video
   */
  #prefer(transceiver, media, video) {
    if (typeof transceiver.setCodecPreferences !== "function") return;
    const codecs = preferred(this.env.capabilities(media)?.codecs ?? [], media, this.env.e2ee ? ["vp8"] : video, !this.env.e2ee);
    if (codecs.length > 0) transceiver.setCodecPreferences(codecs);
  }

  /**
   * Makes the next offer, without what the room leaves out of it.
   * @param {Record<Kind, Local>} local @param {number} [seats] grow to this many
   * @returns {Promise<Offer>}
   */
  async offer(local, seats = this.seats.size) {
    this.#addSeats(seats);
    await Promise.all(this.#swaps.values());
    await this.pc.setLocalDescription(await this.pc.createOffer());
    const sdp = trim(this.pc.localDescription?.sdp ?? "");
    return {
      generation: (this.generation = this.on.generation()),
      sdp,
      sources: [...this.#senders].map(([kind, transceiver]) => ({
        mid: transceiver.mid ?? "",
        kind,
        ...(!sends(local[kind]) && { muted: true }),
      })),
      seats: [...this.seats].map(([seat, s]) => ({ seat, audio: s.audio.mid ?? "", video: s.video.mid ?? "" })),
    };
  }

  /** Makes an offer that looks for another path (RFC 8445 §2.4). @param {Record<Kind, Local>} local */
  restart(local) {
    if (this.servers.length > 0) this.pc.setConfiguration({ ...this.pc.getConfiguration(), iceServers: this.servers });
    this.pc.restartIce();
    return this.offer(local);
  }

  /** Whether ICE has found a path. */
  get reached() {
    return !this.closed && reached(this.pc.iceConnectionState);
  }

  /** Whether it was ever connected. */
  get met() { return this.#watch !== null; }

  /** Whether nothing has come for a moment. */
  get quiet() {
    return !this.closed && this.#pulse.quiet(this.env.now());
  }

  /** Whether something came a moment ago. */
  get flows() {
    return !this.closed && this.#pulse.flows(this.env.now());
  }

  /** Looks whether anything still comes. */
  async #listen() {
    const report = this.closed ? null : await this.pc.getStats?.();
    if (!report || this.closed) return;
    let bytes = 0;
    for (const s of report.values()) if (s.type === "transport" || s.type === "candidate-pair") bytes += s.bytesReceived ?? 0;
    const news = this.#pulse.look(this.env.now(), bytes);
    if (news) this.on[news]();
    this.#watch = this.env.setTimeout(() => this.#listen(), this.#pulse.wait(this.env.now()));
  }

  /** Takes the room's answer. @param {Answer} answer */
  async accept(answer) {
    if (this.closed || answer.generation !== this.generation) return;
    await this.pc.setRemoteDescription({ type: "answer", sdp: newest(answer.sdp, ++this.#answers) });
    if (this.pc.connectionState !== "connected") this.#arm(this.#watch ? DISCONNECTED_MS : CONNECT_MS);
  }

  /** Sends the source's track, or nothing while it is muted. @param {Kind} kind @param {Local} local */
  attach(kind, local) {
    const sender = this.#senders.get(kind)?.sender;
    const track = sends(local) ? local.track : null;
    const swap = async () => {
      if (this.closed || !sender || sender.track === track) return;
      await sender.replaceTrack(track);
      await this.#tune(kind, sender);
    };
    return this.#enqueue(kind, swap);
  }

  /** Sends of an own source what the room wants of it. @param {Publish} wanted */
  publish(wanted) {
    this.#wanted.set(wanted.kind, wanted);
    const sender = this.#senders.get(wanted.kind)?.sender;
    return this.#enqueue(wanted.kind, async () => {
      if (!this.closed && sender) await this.#tune(wanted.kind, sender);
    });
  }

  /** @param {Kind} kind @param {() => Promise<void>} change */
  #enqueue(kind, change) {
    const done = (this.#swaps.get(kind) ?? Promise.resolve()).then(change).catch(() => {}); // closed meanwhile
    this.#swaps.set(kind, done);
    return done;
  }

  /**
   * Rests the layers of an own source that are not to be sent, and wakes the others.
   * A source without a track rests too: Firefox would go on with black frames, padded
   * up to what all layers would take, over 2 Mbit/s.
   * @param {Kind} kind @param {RTCRtpSender} sender
   */
  async #tune(kind, sender) {
    const parameters = sender.getParameters();
    const modes = this.#modes.get(kind) ?? new Map();
    this.#modes.set(kind, modes);
    if (!tune(parameters.encodings ?? [], sender.track !== null, this.#wanted.get(kind) ?? null, modes)) return;
    await sender.setParameters(parameters);
  }

  get open() {
    return !this.closed && this.#channel.readyState === "open";
  }

  get connected() {
    return !this.closed && this.pc.connectionState === "connected";
  }

  /** Sends over the data channel. @param {string} type @param {unknown} body */
  send(type, body) {
    if (!this.open) return false;
    const text = encodeFrame(type, 0, body);
    if (byteLength(text) <= MAX_PLAIN_BYTES) {
      this.#channel.send(text);
    } else {
      for (const chunk of split(++this.#chunkId, text)) this.#channel.send(encodeFrame("chunk", 0, chunk));
    }
    return true;
  }

  /** A summary, null once closed; loss and rates are since the last one. */
  async stats() {
    // Firefox never answers if the connection is closed meanwhile.
    const report = this.closed ? null : await Promise.race([this.pc.getStats(), this.#ended]);
    if (!report) return null;
    /** @type {Map<string | null, number>} */
    const mids = new Map();
    for (const [seat, { audio, video }] of this.seats) mids.set(audio.mid, seat).set(video.mid, seat);
    const { stats, marks } = summarize([...report.values()], (mid) => mids.get(mid) ?? -1, this.#marks, this.env.now());
    this.#marks = marks;
    return stats;
  }

  /** Waits until what was sent is out, at most ms. @param {number} ms */
  async flushed(ms) {
    for (let left = ms; left > 0 && this.open && this.#channel.bufferedAmount > 0; left -= 20) {
      await new Promise((r) => this.env.setTimeout(() => r(null), 20));
    }
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.#end(null);
    this.env.clearTimeout(this.#timer);
    this.env.clearTimeout(this.#watch);
    this.pc.onconnectionstatechange = null;
    this.#channel.onopen = this.#channel.onmessage = null;
    this.pc.close();
  }

  /** @param {unknown} data */
  #receive(data) {
    if (this.closed || typeof data !== "string") return;
    const frame = this.#parse(data);
    if (frame) this.on.frame(frame);
  }

  /** Null for the part of a frame, and for what is no frame at all. @param {string} text */
  #parse(text) {
    try {
      const frame = parseFrame(text);
      if (frame.type !== "chunk") return frame;
      const whole = this.#assembler.push(frame.body);
      return whole === null ? null : parseFrame(whole);
    } catch (err) {
      if (err instanceof CallError) return null;
      throw err;
    }
  }

  #changed() {
    const state = this.pc.connectionState;
    if (state === "connected") {
      this.#disarm();
      if (!this.#watch) {
        this.#watch = true;
        this.#listen();
      }
      this.on.media(true);
    } else if (state === "closed" || (state === "failed" && !(this.#watch && this.on.alone()))) {
      this.#lose();
    } else if (state === "disconnected" || state === "failed") { // a restart without any network fails in Firefox, and the next may not
      this.on.media(false);
      this.#arm(DISCONNECTED_MS);
      this.on.silent();
    }
  }

  /** Waits for a path, for ms from now on. @param {number} ms */
  #arm(ms) {
    this.#lostAt ||= this.env.now();
    this.#until = this.env.now() + ms;
    this.#judge();
  }

  #disarm() {
    this.env.clearTimeout(this.#timer);
    this.#lostAt = 0;
  }

  /** Gives up when the time is over. It stands still while the room cannot be reached at all: then a new connection would not come up either. */
  #judge() {
    this.env.clearTimeout(this.#timer);
    const now = this.env.now();
    if (this.closed || this.connected) return;
    if (this.#watch && this.on.alone()) this.#until = Math.max(this.#until, Math.min(now + DISCONNECTED_MS, this.#lostAt + GONE_MS));
    if (now >= this.#until) return this.#lose();
    this.#timer = this.env.setTimeout(() => this.#judge(), Math.min(JUDGE_MS, this.#until - now));
  }

  #lose() {
    if (this.closed) return;
    this.#disarm();
    this.on.media(false);
    this.on.lost();
  }
}

/** Whether a source has something to send. @param {Local} local */
export function sends(local) {
  return local.track !== null && !local.muted;
}
