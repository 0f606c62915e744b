// A clock, a WebSocket and a PeerConnection that do as they are told. They stand in
// for the browser; what is tested is the client.

/** A clock that moves when told. Promises settle between its steps. */
export class Clock {
  time = 1_000_000;
  #id = 0;
  /** @type {Map<number, {at: number, fn: () => void}>} */ #timers = new Map();

  /** @param {() => void} fn @param {number} ms */
  set(fn, ms) {
    this.#timers.set(++this.#id, { at: this.time + ms, fn });
    return this.#id;
  }

  /** @param {number} id */
  clear(id) {
    this.#timers.delete(id);
  }

  /** @param {number} ms */
  async advance(ms) {
    const end = this.time + ms;
    await settle();
    for (;;) {
      const next = [...this.#timers].filter(([, t]) => t.at <= end).sort((a, b) => a[1].at - b[1].at)[0];
      if (!next) break;
      this.#timers.delete(next[0]);
      this.time = Math.max(this.time, next[1].at);
      next[1].fn();
      await settle();
    }
    this.time = end;
  }

  get pending() {
    return this.#timers.size;
  }
}

export async function settle() {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}

export class FakeSocket {
  readyState = 0;
  /** @type {any[]} */ sent = [];
  /** @type {any} */ onopen;
  /** @type {any} */ onmessage;
  /** @type {any} */ onclose;

  /** @param {string} url @param {string} protocol */
  constructor(url, protocol) {
    this.url = url;
    this.protocol = protocol;
  }
  /** @param {string} text */
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  close() {
    this.readyState = 3;
  }

  // What the server does.
  open() {
    this.readyState = 1;
    this.onopen({});
  }
  /** @param {string} type @param {any} body @param {number} [seq] */
  says(type, body, seq) {
    this.onmessage({ data: JSON.stringify({ type, seq, body }) });
  }
  drop() {
    this.readyState = 3;
    this.onclose({ code: 1006 });
  }
  /** @param {string} type */
  last(type) {
    return this.sent.filter((f) => f.type === type).at(-1);
  }
}

class FakeChannel {
  readyState = "connecting";
  bufferedAmount = 0;
  /** @type {any[]} */ sent = [];
  /** @type {any} */ onopen;
  /** @type {any} */ onmessage;
  /** @param {string} text */
  send(text) {
    this.sent.push(JSON.parse(text));
  }
  open() {
    this.readyState = "open";
    this.onopen({});
  }
  /** @param {string} type @param {any} body */
  says(type, body) {
    this.onmessage?.({ data: JSON.stringify({ type, body }) });
  }
  /** @param {string} type */
  last(type) {
    return this.sent.filter((f) => f.type === type).at(-1);
  }
}

export class FakePC {
  connectionState = "new";
  /** @type {any[]} */ transceivers = [];
  /** @type {any} */ localDescription = null;
  /** @type {any} */ answer = null;
  /** @type {any} */ onconnectionstatechange = null;
  closed = false;
  channel = new FakeChannel();

  /** @param {any} [configuration] */
  constructor(configuration = {}) {
    /** @type {any} */ this.configuration = configuration;
  }

  async getStats() {
    return new Map();
  }

  createDataChannel() {
    return this.channel;
  }
  /** @param {string} kind @param {any} init */
  addTransceiver(kind, init) {
    /** @type {any} */ const sender = {
      track: null,
      encodings: (init.sendEncodings ?? []).map((/** @type {any} */ e) => ({ ...e, active: true })),
      /** @param {any} track */
      async replaceTrack(track) {
        sender.track = track;
      },
      getParameters: () => ({ encodings: sender.encodings.map((/** @type {any} */ e) => ({ ...e })) }),
      /** @param {any} p */
      async setParameters(p) {
        sender.encodings = p.encodings;
      },
    };
    const t = { kind, init, mid: null, sender, receiver: { track: { kind } }, codecs: [], setCodecPreferences: (/** @type {any} */ c) => (t.codecs = c) };
    this.transceivers.push(t);
    return t;
  }
  async createOffer() {
    return { type: "offer", sdp: "v=0\r\na=candidate:1 1 udp 1 10.0.0.9 1 typ host\r\na=end-of-candidates\r\na=mid:0\r\na=simulcast:send ~q;~h;f\r\n" };
  }
  /** @param {any} d */
  async setLocalDescription(d) {
    this.localDescription = d;
    this.transceivers.forEach((t, i) => (t.mid = String(i)));
  }
  /** @param {any} d */
  async setRemoteDescription(d) {
    if (d.sdp === "bad") throw new Error("bad answer");
    this.answer = d;
  }
  iceConnectionState = "new";
  restarts = 0;
  restartIce() {
    this.restarts++;
  }
  getConfiguration() {
    return this.configuration;
  }
  /** @param {any} c */
  setConfiguration(c) {
    this.configuration = c;
  }
  close() {
    this.closed = true;
    this.connectionState = "closed";
  }
  /** @param {string} state */
  becomes(state) {
    this.connectionState = state;
    this.onconnectionstatechange?.({});
  }
}

/** A world in which a Call can be made. */
export function world() {
  const clock = new Clock();
  /** @type {FakeSocket[]} */ const sockets = [];
  /** @type {FakePC[]} */ const pcs = [];
  let secrets = 0;
  /** @type {any} */
  const env = {
    WebSocket: class extends FakeSocket {
      /** @param {string} u @param {string} p */
      constructor(u, p) {
        super(u, p);
        sockets.push(this);
      }
    },
    RTCPeerConnection: class extends FakePC {
      /** @param {any} [configuration] */
      constructor(configuration) {
        super(configuration);
        pcs.push(this);
      }
    },
    MediaStream: class {
      /** @param {any[]} tracks */
      constructor(tracks) {
        this.tracks = tracks;
      }
    },
    capabilities: () => ({ codecs: [{ mimeType: "video/VP8" }, { mimeType: "video/H264" }, { mimeType: "video/rtx" }, { mimeType: "audio/opus" }, { mimeType: "audio/red" }, { mimeType: "audio/G722" }], headerExtensions: [] }),
    now: () => clock.time,
    setTimeout: (/** @type {() => void} */ fn, /** @type {number} */ ms) => clock.set(fn, ms),
    clearTimeout: (/** @type {number} */ id) => clock.clear(id),
    random: () => 0.5,
    secret: () => `secret-${++secrets}-`.padEnd(22, "x"),
  };
  return { clock, sockets, pcs, env };
}

/** @returns {any} */
export function fakeTrack() {
  return { enabled: true, addEventListener() {} };
}
