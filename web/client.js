// The mayfly client: a call in a room, without touching the DOM. This is the
// module that a product imports:
//
//   const call = new Call({ ws, ticket });
//   call.on("seating", (seats) => …);        // seats: [{seat, participant, video, stream, …}]
//   call.watch();                            // room states, while the room starts
//   call.setTrack("mic", track);
//   await call.join();                       // as soon as the room is live
//   call.view([{ source: "p_1/camera", width: 1280, height: 720 }]);
//
// docs/protocol.md is the contract. wire.js has frames, socket.js the WebSocket and
// its reconnections, peer.js one PeerConnection. This file decides: when to join,
// when a lost connection is replaced, when it is over. Losing the WebSocket never
// touches media; losing media, or the task, leads to a new PeerConnection over the
// same local tracks, without anyone's help.

import { Events, Timers, deferred, envOf, errorInfo } from "./base.js";
import { Entry } from "./entry.js";
import { Handover } from "./handover.js";
import { fits } from "./joining.js";
import { Mirror } from "./mirror.js";
import { KINDS, Peer } from "./peer.js";
import { Renegotiation } from "./renegotiation.js";
import { Roster } from "./roster.js";
import { Socket } from "./socket.js";
import { Successor } from "./successor.js";
import { CallError, MAX_CHAT_BYTES, MAX_FIRST_SEATS, MAX_SEATS, byteLength, retryDelay } from "./wire.js";

export { CallError } from "./wire.js";

/** @import { Deferred } from "./base.js" */
/**
 * @import { Answer, CallEvents, CallOptions, CallState, Ended, Env, Frame, Joined, Kind, Local, Offer,
 *   Participant, Room, SeatView, Size, Want } from "./types.js"
 */

export const VIEW_DEBOUNCE_MS = 100;
export const STEADY_MS = 10_000; // media that held this long starts the schedule anew
const FIRST_TRIES = 10; // to reach the WebSocket at all, about 50 s
const LEAVE_MS = 500;

export class Call {
  /** @type {CallState} */
  state = "new";
  /** The room's latest state. @type {Room | null} */
  room = null;
  /** @type {SeatView[]} */
  seating = [];
  /** Own sources. @type {Record<Kind, Local>} */
  local = /** @type {any} */ (Object.fromEntries(KINDS.map((kind) => [kind, { track: null, muted: false }])));

  /** @type {Env} */ #env;
  /** @type {Socket} */ #socket;
  /** @type {Peer | null} */ #peer = null; // what media flows over
  /** @type {Successor} */ #next; // the connection that comes next, until it is answered
  /** @type {Handover} */ #handover;
  #epoch = 0; // of #peer
  #generation = 0; // of the latest offer, over all peers
  #answered = 0; // the generation that #peer joined with
  #wanted = false; // join was called
  #healthy = false; // #peer serves, or may still come
  #rejoins = 0;
  #media = false;
  #seats;
  #mirror = new Mirror();
  #roster = new Roster();
  #events = new Events();
  /** @type {Timers} */ #timers;
  /** @type {Entry} */ #entry;
  /** @type {Renegotiation} */ #offers;
  /** @type {Deferred<Joined> | null} */ #joining = null;

  /** @param {CallOptions} options */
  constructor(options) {
    this.options = options;
    this.#env = envOf(options);
    this.#timers = new Timers(this.#env);
    this.#entry = new Entry({
      options, env: this.#env, timers: this.#timers, mirror: this.#mirror, local: this.local,
      again: () => this.#advance(), kept: (resume) => this.#events.emit("resume", resume),
    });
    this.#seats = Math.min(options.seats ?? MAX_FIRST_SEATS, MAX_SEATS);
    this.#socket = new Socket({
      url: options.ws, env: this.#env,
      hello: () => this.#hello(), frame: (f) => this.#frame(f, null),
      up: (up) => this.#signalling(up), lost: (tries) => this.#unreached(tries),
    });
    this.#offers = new Renegotiation({
      env: this.#env, timers: this.#timers, socket: this.#socket, local: this.local,
      peer: () => (this.over ? null : this.#peer), serves: () => this.#healthy && !this.over, report: (err) => this.#report(err),
    });
    this.#next = new Successor({
      env: this.#env, timers: this.#timers, local: this.local, make: (servers) => this.#connect(servers),
      ready: () => this.#advance(), failed: (err) => this.#fail(new CallError("unsupported", errorInfo(err).message)),
    });
    this.#handover = new Handover({
      env: this.#env, socket: this.#socket, peer: () => this.#peer, roster: () => this.#roster,
      serves: () => this.#healthy, epoch: () => this.room?.epoch ?? 0,
      revive: () => this.#revive(), again: () => this.#advance(), use: (next, roster, joined) => this.#goOver(next, roster, joined),
      said: ({ type, body }) => this.#events.emit(/** @type {"chat"} */ (type), body),
      failed: () => this.#stay(), report: (err) => this.#report(err),
    });
  }

  /**
   * Listens; returns a function that stops listening.
   * @template {keyof CallEvents} K
   * @param {K} type @param {(arg: CallEvents[K]) => void} fn
   */
  on(type, fn) { return this.#events.on(type, fn); }

  /** Connects, to be told the room's state. join does it too. */
  watch() {
    if (this.state !== "new") return;
    this.#enter("connecting");
    this.#socket.open();
  }

  /** Joins as soon as the room is live. Rejects with a CallError if that cannot be. @returns {Promise<Joined>} */
  join() {
    this.watch();
    if (!this.#joining) {
      this.#joining = deferred();
      this.#wanted = true;
      if (this.over) this.#joining.reject(new CallError("left", "the call is over"));
      if (this.#next.stale) this.#next.discard();
      this.prepare();
      this.#advance();
    }
    return this.#joining.promise;
  }

  /**
   * Makes the connection and its offer ahead of join, which takes less then. To be called
   * when the camera may be used: until then browsers hide most of their addresses.
   */
  prepare() { if (!this.over && !this.#peer && !this.#next.peer) this.#next.prepare(); }

  /** The secret for the next join, "" before joining. */
  get resume() { return this.#entry.resume; }
  /** The client's own participant id, "" before joining. */
  get participant() { return this.#roster.self; }
  /** Everyone else, by id. @returns {Map<string, Participant>} */
  get participants() { return this.#roster.people; }
  get over() { return this.state === "ended" || this.state === "failed"; }

  /** Attaches an own source's track, or null to detach it. @param {Kind} kind @param {MediaStreamTrack | null} track */
  setTrack(kind, track) {
    if (track) {
      track.addEventListener?.("ended", () => this.local[kind].track === track && this.setTrack(kind, null));
    }
    this.#setLocal(kind, { ...this.local[kind], track });
  }

  /** Mutes an own source or unmutes it. The track stays attached. @param {Kind} kind @param {boolean} muted */
  setMuted(kind, muted) { this.#setLocal(kind, { ...this.local[kind], muted }); }

  /**
   * Says what this viewer wants to see, in order of importance, and how large it shows
   * others, who are not listed: those it does not know yet. Sent after a short rest.
   * @param {Want[]} wants @param {Size} [others]
   */
  view(wants, others) {
    if (this.#mirror.want(wants, others) && !this.#timers.has("view")) this.#timers.after("view", VIEW_DEBOUNCE_MS, () => this.#sync());
  }

  /** Sends a text to everyone; it comes back as a chat event. @param {string} text */
  chat(text) {
    if (byteLength(text) > MAX_CHAT_BYTES) throw new CallError("too_large", "the text is too long");
    if (!this.#peer?.send("chat", { text })) throw new CallError("not_joined", "not connected", true);
  }

  /** Grows to n seats, beyond which people are not received. @param {number} n */
  async grow(n) {
    this.#seats = Math.max(this.#seats, Math.min(n, MAX_SEATS));
    await this.#offers.grow(this.#seats);
  }

  /** A summary of the connection. Loss and rates are since the last call. */
  async stats() { return this.#peer ? this.#peer.stats() : null; }

  /** The PeerConnection in use, for statistics and tests; it changes with every rejoin. */
  get peerConnection() { return this.#peer?.pc ?? null; }

  /** Reconnects at once, as when the network came back. */
  nudge() {
    if (!this.#wanted && this.#next.peer) {
      this.#next.discard(); // it was made for a network that is gone
      this.prepare();
    }
    if (this.room) this.#socket.check(true); // it may have died with its network
    else this.#socket.nudge();
  }

  /** Leaves the room. The local tracks are the caller's to stop. @param {string} [reason] */
  async leave(reason = "left") {
    if (this.over) return;
    const peer = this.#peer;
    this.#peer = null; // nothing that comes now matters
    this.#handover.leave(reason);
    const told = peer?.send("leave", { reason });
    if (!told && this.participant) this.#socket.send("leave", { reason });
    this.#finish("ended", { reason: "left" });
    await peer?.flushed(LEAVE_MS);
    peer?.close();
  }

  // Deciding.

  /** Does whatever is due: called after every change. */
  #advance() {
    if (this.over || !this.#wanted || !this.room) return;
    if (this.#peer && this.#healthy && this.room.epoch <= this.#epoch) return;
    const live = this.room.state === "live";
    if (!this.#handover.stays) this.#enter(this.participant ? "rejoining" : live ? "joining" : "waiting");
    if (this.#timers.has("rejoin")) return;
    if (!this.#next.peer) this.#next.prepare();
    else if (live && this.#next.offer && !this.#entry.sent && this.#socket.up) this.#sendJoin(this.#next.offer);
  }

  /** Makes a PeerConnection. @param {RTCIceServer[]} servers that its first offer may use */
  #connect(servers) {
    const seats = Math.min(this.#seats, MAX_FIRST_SEATS);
    /** @type {Peer} */ const peer = new Peer(this.#env, this.local, this.options.publish ?? KINDS, seats, {
      generation: () => ++this.#generation, frame: (f) => this.#frame(f, peer),
      open: () => peer === this.#peer && this.#opened(), lost: () => this.#peerLost(peer),
      suspect: () => peer === this.#peer && this.#offers.doubt(peer),
      silent: () => peer === this.#peer && this.#offers.restart(peer),
      back: () => peer === this.#peer && this.#offers.heard(),
      alone: () => this.#offers.alone,
      media: (up) => {
        if (peer !== this.#peer) return;
        this.#setMedia(up);
        if (up) this.#offers.heard();
      },
    }, this.options.codec, servers);
    return peer;
  }

  /** The first frame of a WebSocket. A ticket that was used cannot watch; the same join again can. */
  #hello() {
    // A room that is not known yet may be live.
    const { offer } = this.#next;
    if (offer && (this.#entry.again || (this.#wanted && !this.room))) {
      const body = this.#entry.join(offer);
      if (fits(body)) return { type: "join", body };
    }
    return { type: "watch", body: this.#entry.secret };
  }

  /** @param {Offer} offer */
  #sendJoin(offer) {
    const body = this.#entry.join(offer);
    if (!fits(body)) return this.#fail(new CallError("offer_too_large", "the offer is over 32 KB; ask for fewer seats"));
    this.#socket.send("join", body);
  }

  /** @param {Joined} joined */
  async #joined(joined) {
    const { peer } = this.#next;
    // The answer to a join that was sent twice may bring a newer secret. One from an
    // older epoch comes from a task that is gone.
    if (joined.answer.generation === this.#answered && !this.#entry.tried) this.#entry.keep(joined.resume);
    if (!peer || peer.generation !== joined.answer.generation || joined.epoch < (this.room?.epoch ?? 0)) return;
    this.#answered = peer.generation;
    this.#entry.answered(joined.resume);
    this.#next.take();
    const staying = this.#handover.stays ? this.#peer : null;
    this.#healthy = true;
    this.#epoch = joined.epoch;
    if (staying) return this.#handover.begin(staying, peer, joined);
    this.#peer?.close();
    this.#peer = peer;
    const accepted = peer.accept(joined.answer); // before the page draws anything: it has 40 ms of work to do
    accepted.catch(() => {}); // looked at below
    this.#offers.relay(peer, joined.ice_servers ?? [], this.#entry.waited);
    this.#roster.join(joined);
    this.#setMedia(false);
    this.#enter("joined");
    this.#present(joined);
    this.#joining?.resolve(joined);
    try {
      await accepted;
    } catch (err) {
      this.#report(err);
      if (peer === this.#peer) this.#lost();
    }
  }

  /** Tells who and what is there, all of it. @param {Joined} joined */
  #present(joined) {
    this.#events.emit("joined", joined);
    this.#events.emit("participants", this.participants);
    this.#reseat();
  }

  /** What plays is kept up again, until the next task has answered. */
  #revive() {
    this.#healthy = true;
    this.#setMedia(true);
    this.#enter("joined");
  }

  /** The next task's connection is the one in use. @param {Peer} next @param {Roster} roster @param {Joined} joined */
  #goOver(next, roster, joined) {
    this.#peer = next;
    this.#roster = roster;
    this.#mirror.tell(this.#entry.told);
    this.#setMedia(next.connected);
    this.#present(joined);
    if (next.open) this.#opened();
  }

  /** The next task's connection came to nothing: what plays plays on, and another is tried. */
  #stay() {
    this.#epoch--;
    this.#later();
  }

  /** @param {Peer} peer */
  #peerLost(peer) { if (!this.#handover.lost(peer) && peer === this.#peer) this.#lost(this.#next.learn(peer)); }

  /** The connection, or the task, is gone: replace it, on schedule or at once. */
  #lost(now = false) {
    if (this.over || !this.#healthy) return;
    this.#healthy = false;
    this.#handover.forget();
    this.#setMedia(false);
    this.#enter("rejoining");
    if (!now) this.#later();
    this.#advance();
  }

  /** Joins again, on schedule. */
  #later() { this.#timers.after("rejoin", retryDelay(this.#rejoins++, this.#env.random()), () => this.#advance()); }

  // What comes in.

  /** @param {boolean} up */
  #signalling(up) {
    this.#events.emit("connection", { signalling: up, media: this.#media });
    if (!up) return this.#entry.forget();
    this.#offers.up();
    this.#advance();
  }

  /** Whether to go on trying to reach the WebSocket. @param {number} tries */
  #unreached(tries) {
    if (this.room || tries < FIRST_TRIES) return true;
    this.#fail(new CallError("signalling_lost", "the service cannot be reached"));
    return false;
  }

  /** @param {Frame} frame @param {Peer | null} from the peer whose data channel it came over; null: the WebSocket */
  #frame({ type, body }, from) {
    if (this.over) return;
    if (from && from !== this.#peer) return this.#handover.frame({ type, body, seq: 0 }, from);
    switch (type) {
      case "moved":
        return this.#handover.told(body.epoch);
      case "room":
        return this.#roomIs(body);
      case "joined":
        return this.#joined(body);
      case "answer":
        return this.#grown(body);
      case "participants":
        this.#roster.change(body);
        return this.#events.emit("participants", this.participants);
      case "servers":
        if (this.#peer) this.#peer.servers = body.ice_servers;
        return;
      case "seating":
        this.#roster.seat(body);
        return this.#reseat();
      case "publish":
        return void this.#peer?.publish(body);
      case "ended":
        return this.#ended(body, from);
      case "error":
        return this.#error(new CallError(body.code, body.message, body.retryable), from);
      case "speakers": case "chat": case "quality": case "budget": case "grants":
        return this.#events.emit(type, body);
    }
  }

  /** @param {Room} room */
  #roomIs(room) {
    if (this.room && room.version < this.room.version) return;
    // A join that went to an earlier task, or came too early, is answered by nobody.
    if (room.epoch !== this.room?.epoch || room.state !== this.room.state) this.#entry.sent = false;
    this.room = room;
    if (room.e2ee && !this.#env.e2ee) return this.#fail(new CallError("e2ee_required", "the room's media are encrypted: a key is needed"));
    if (this.state === "connecting") this.#enter("waiting");
    this.#events.emit("room", room);
    if (room.state === "failed") return this.#fail(new CallError("room_ended", "the room could not be started"));
    if (room.state === "ended") return this.#finish("ended", { reason: room.reason ?? "ended" });
    if (this.#peer && room.epoch > this.#epoch && this.#healthy && !this.#handover.stays) {
      // Another task takes over. Nothing comes from the old one any more, so this is
      // no time for the schedule.
      this.#healthy = false;
      this.#setMedia(false);
      this.#rejoins = 0;
      this.#timers.cancel("rejoin");
    }
    this.#advance();
  }

  /** @param {Answer} answer */
  async #grown(answer) {
    if (!(await this.#offers.answered(answer))) return;
    this.#reseat();
    this.#offers.grow(this.#seats);
  }

  #reseat() {
    this.seating = this.#roster.views(this.#peer?.seats ?? new Map());
    this.#events.emit("seating", this.seating);
  }

  /** @param {Ended} ended @param {Peer | null} from */
  #ended({ reason, rejoin }, from) {
    // While this client joins again, it is itself who replaces its old connection.
    if (reason === "replaced" && this.#next.peer) return;
    if (rejoin && this.#wanted) return from || this.#peer ? this.#lost() : this.#entry.later();
    this.#finish("ended", { reason });
  }

  /** @param {CallError} err @param {Peer | null} from */
  #error(err, from) {
    const joining = !from && this.#next.peer !== null && this.#entry.sent;
    if (err.final) {
      if (err.code === "room_ended") return this.#finish("ended", { reason: "ended" });
      // Media in use outlives its signalling.
      if (this.#peer?.connected && this.#healthy) this.#socket.stop();
      else return this.#fail(err);
    } else if (joining && err.retryable && err.code !== "room_full") {
      this.#entry.later();
      if (err.code === "room_not_live") return; // a state, not a fault
    } else if (joining) {
      return this.#fail(err);
    }
    this.#report(err);
  }

  // Keeping the room up to date.

  #opened() {
    this.#sync();
    this.grow(this.#seats);
  }

  #sync() { if (this.#peer) this.#mirror.sync(this.#peer, this.local); }

  /** @param {Kind} kind @param {Local} next */
  #setLocal(kind, next) {
    this.local[kind] = next;
    if (next.track) next.track.enabled = !next.muted;
    this.#peer?.attach(kind, next);
    this.#next.peer?.attach(kind, next);
    this.#handover.attach(kind, next);
    this.#sync();
    this.#events.emit("local", { kind, ...next });
  }

  /** @param {boolean} up */
  #setMedia(up) {
    if (up) this.#timers.after("steady", STEADY_MS, () => (this.#rejoins = 0));
    else this.#timers.cancel("steady");
    if (up !== this.#media) this.#events.emit("connection", { signalling: this.#socket.up, media: (this.#media = up) });
  }

  /** @param {unknown} err */
  #report(err) { this.#events.emit("error", errorInfo(err)); }

  /** @param {CallState} state */
  #enter(state) {
    if (this.state === state || this.over) return;
    this.state = state;
    this.#events.emit("state", state);
  }

  /** @param {CallError} err */
  #fail(err) { this.#finish("failed", { reason: err.code, error: errorInfo(err) }); }

  /** @param {"ended" | "failed"} state @param {CallEvents["ended"]} ended */
  #finish(state, ended) {
    if (this.over) return;
    this.#enter(state);
    this.#timers.clear();
    this.#next.discard();
    this.#handover.close();
    this.#peer?.close();
    this.#socket.stop();
    this.#joining?.reject(new CallError(ended.error?.code ?? "left", ended.error?.message ?? "the call is over"));
    this.#events.emit("ended", ended);
  }
}
