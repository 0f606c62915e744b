// The messages of the protocol (docs/protocol.md) and the options, events and
// values of client.js.

export type Kind = "mic" | "camera" | "screen" | "screen-audio";

export interface Frame {
  type: string;
  seq?: number;
  body?: any;
}

// Messages.

export interface Room {
  id: string;
  version: number;
  epoch: number;
  state: "requested" | "starting" | "live" | "draining" | "ended" | "failed";
  phase: string;
  since_ms: number;
  eta_ms?: number;
  reason?: string;
  /** Media are end-to-end encrypted: without a key there is nothing to be seen. */
  e2ee?: boolean;
}
export interface Offer {
  generation: number;
  sdp: string;
  sources?: SourceLine[];
  seats: SeatLine[];
}
export interface SourceLine {
  mid: string;
  kind: Kind;
  muted?: boolean;
}
export interface SeatLine {
  seat: number;
  audio: string;
  video: string;
}
export interface Answer {
  generation: number;
  sdp: string;
}
export interface Want {
  source: string;
  width: number;
  height: number;
  pinned?: boolean;
}
/** In device pixels. */
export interface Size {
  width: number;
  height: number;
}
export interface View {
  rev: number;
  wants: Want[];
  /** The size at which cameras and screens that are not listed are shown, while seats last. */
  others?: Size;
}
export interface Source {
  id: string;
  kind: Kind;
  codec?: string;
  muted: boolean;
  /** Whoever runs the room has muted it: it is not forwarded, whatever is sent. */
  held?: boolean;
}
export interface Participant {
  id: string;
  identity: string;
  name: string;
  sources: Source[];
}
export interface Seat {
  seat: number;
  participant: string;
  video?: string;
  audio?: string;
  paused?: "muted" | "hidden" | "bandwidth" | "overload" | "codec" | "no_keyframe";
}
export interface Seating {
  rev: number;
  seats: Seat[];
}
export interface Joined {
  room: string;
  epoch: number;
  participant: string;
  answer: Answer;
  participants: Participant[];
  seating: Seating;
  resume: string;
  /** The task's own relay; its credential is this participant's. */
  ice_servers?: RTCIceServer[];
}
export interface Servers {
  ice_servers: RTCIceServer[];
}
export interface Speakers {
  active: string;
  loudest?: string[];
}
export interface Chat {
  text: string;
  from?: string;
  name?: string;
  at_ms?: number;
}
/** The room comes near a cap; at the cap it ends. */
export interface Budget {
  level: "near" | "last";
  cap: "duration" | "participant_minutes" | "egress_bytes" | "nano_usd";
  used_permil: number;
  /** Pictures are small from here on. */
  reduce?: boolean;
}
export type Level = "excellent" | "good" | "poor" | "lost";
export interface Quality {
  participant: string;
  /** 0 (lost) to 100: the lower of up and down. */
  score: number;
  level: Level;
  up: number;
  down: number;
  rtt_ms: number;
  loss_permil: number;
  concealed_permil: number;
  bandwidth_kbps?: number;
  transport?: string;
  seats: SeatQuality[];
}
export interface SeatQuality {
  seat: number;
  level: Level;
  /** The publisher's connection is the worse one. */
  far?: boolean;
}
export interface Publish {
  kind: Kind;
  /** Layers that anybody looks at, from the lowest; 0 pauses the source. */
  layers: number;
  rids?: string[];
}
export interface Standing {
  grants: { publish: Kind[]; subscribe: boolean; chat: boolean; moderate?: boolean };
  /** Own sources that are not forwarded until further notice. */
  muted: Kind[];
}
export interface Ended {
  reason: string;
  rejoin: boolean;
}
export interface Chunk {
  id: number;
  index: number;
  count: number;
  data: string;
}

// The client.

/** What the client needs of its surroundings. Tests give their own. */
export interface Env {
  WebSocket: new (url: string, protocols?: string | string[]) => WebSocket;
  RTCPeerConnection: new (config?: RTCConfiguration) => RTCPeerConnection;
  MediaStream: new (tracks?: MediaStreamTrack[]) => MediaStream;
  /** Codecs this browser can receive, or null if it cannot tell. */
  capabilities(kind: "audio" | "video"): RTCRtpCapabilities | null;
  /** Codecs this browser can send; absent: those it can receive. */
  sendable?(kind: "audio" | "video"): RTCRtpCapabilities | null;
  now(): number;
  setTimeout(fn: () => void, ms: number): any;
  clearTimeout(id: any): void;
  random(): number;
  e2ee?: Crypt;
  /** A secret of at least 16 random bytes, base64url. */
  secret(): string;
}

export type VideoCodec = "vp8" | "h264" | "vp9" | "av1";

export interface CallOptions {
  /** URL of the client WebSocket. */
  ws: string;
  /** A join ticket, or the resume secret of an earlier call. Exactly one. */
  ticket?: string;
  resume?: string;
  /** Shown name, if the ticket leaves it to the client. */
  name?: string;
  /** How many people can be received at once; above 8 the rest follow after joining. Default 8. */
  seats?: number;
  /** What the ticket allows to publish; the room refuses an offer that holds more. Default all. */
  publish?: Kind[];
  /** With which codec own videos are sent, if the browser has it. Default "vp8", which every browser decodes. */
  codec?: VideoCodec;
  /** For operators: what software joins. */
  sdk?: string;
  browser?: string;
  /** Encrypts media end to end; needed where the room says e2ee. See e2ee.js. */
  e2ee?: Crypt;
  env?: Partial<Env>;
}

/** What encrypts and decrypts the frames of a call: MediaCrypto of e2ee.js. */
export interface Crypt {
  encrypt(sender: RTCRtpSender, media: "audio" | "video"): void;
  decrypt(receiver: RTCRtpReceiver, media: "audio" | "video"): void;
}

export interface Local {
  track: MediaStreamTrack | null;
  muted: boolean;
}

export type CallState = "new" | "connecting" | "waiting" | "joining" | "joined" | "rejoining" | "ended" | "failed";

/** A seat as the page sees it. The stream stays the same as long as the connection does. */
export interface SeatView extends Seat {
  stream: MediaStream;
}

export interface CallErrorInfo {
  code: string;
  message: string;
  retryable: boolean;
}

export interface Stats {
  /** How the room is reached: "udp", "tcp", "turn-udp", "turn-tcp", "turn-tls", or "" while unknown. */
  transport: string;
  rttMs: number | null;
  /** Of the packets expected since the last call of stats(), in and out: 0 to 1. */
  lossIn: number;
  lossOut: number;
  /** Bytes on the transport since it connected. */
  bytesIn: number;
  bytesOut: number;
  /** Since the last call of stats(), bits per second. */
  bpsIn: number;
  bpsOut: number;
  seats: SeatStats[];
}
export interface SeatStats {
  seat: number;
  width: number;
  height: number;
  fps: number;
  framesDecoded: number;
  audioEnergy: number;
}

export interface CallEvents {
  /** The call's state changed. */
  state: CallState;
  /** The room's state, from the control plane. */
  room: Room;
  joined: Joined;
  /** The resume secret changed: keep it to come back after a reload. */
  resume: string;
  /** Everyone else, by id. */
  participants: Map<string, Participant>;
  seating: SeatView[];
  speakers: Speakers;
  chat: Chat;
  quality: Quality;
  budget: Budget;
  /** What the client may do differs from its ticket, or has changed. */
  grants: Standing;
  /** Whether the WebSocket and the media connection are up. */
  connection: { signalling: boolean; media: boolean };
  /** An own source started or stopped to be sent. */
  local: { kind: Kind; track: MediaStreamTrack | null; muted: boolean };
  /** A fault that does not end the call by itself. */
  error: CallErrorInfo;
  /** The last event: why it is over. error is set when it failed. */
  ended: { reason: string; error?: CallErrorInfo };
}
