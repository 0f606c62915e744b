// Cameras and microphones: opening, choosing, measuring. It remembers the choice.

const KEY = "mayfly.devices";

/** @typedef {{mic: string, camera: string}} Choice device ids, "" for the default */

/** @returns {Choice} */
export function remembered() {
  try {
    return { mic: "", camera: "", ...JSON.parse(localStorage.getItem(KEY) ?? "{}") };
  } catch {
    return { mic: "", camera: "" };
  }
}

/** @param {Partial<Choice>} choice */
export function remember(choice) {
  try {
    localStorage.setItem(KEY, JSON.stringify({ ...remembered(), ...choice }));
  } catch {
    // Storage is full or forbidden; the choice holds for this visit.
  }
}

/** @param {string} id */
const microphone = (id) => ({ deviceId: id ? { ideal: id } : undefined, echoCancellation: true, noiseSuppression: true, autoGainControl: true });
/** @param {string} id */
const camera = (id) => ({ deviceId: id ? { ideal: id } : undefined, width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30, max: 30 } });

/** Opens one device. @param {"mic" | "camera"} kind @param {string} id @returns {Promise<MediaStreamTrack>} */
export async function open(kind, id) {
  if (!navigator.mediaDevices) throw new DOMException("no devices without a secure context", "NotSupportedError");
  const stream = await navigator.mediaDevices.getUserMedia(kind === "mic" ? { audio: microphone(id) } : { video: camera(id) });
  const track = stream.getTracks()[0];
  if (!track) throw new DOMException("no track", "NotFoundError");
  return track;
}

/** Opens both with one question to the person; what cannot be had is null. */
export async function openBoth() {
  const { mic, camera: cam } = remembered();
  /** @type {{mic: MediaStreamTrack | null, camera: MediaStreamTrack | null, error: unknown}} */
  const got = { mic: null, camera: null, error: null };
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: microphone(mic), video: camera(cam) });
    got.mic = stream.getAudioTracks()[0] ?? null;
    got.camera = stream.getVideoTracks()[0] ?? null;
  } catch (err) {
    got.error = err;
    if (err instanceof Error && err.name === "NotAllowedError") return got;
    // One of the two is missing or busy: take the other.
    got.mic = await open("mic", mic).catch(() => null);
    got.camera = await open("camera", cam).catch(() => null);
  }
  return got;
}

/** Fills a list with the devices of a kind. @param {HTMLSelectElement} select @param {MediaDeviceKind} kind @param {MediaStreamTrack | null} current */
export async function list(select, kind, current) {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  const of = all.filter((d) => d.kind === kind);
  const options = of.map((d, i) => new Option(d.label || `${kind === "audioinput" ? "Microphone" : "Camera"} ${i + 1}`, d.deviceId));
  if (options.length === 0) options.push(new Option("None found", ""));
  select.replaceChildren(...options);
  select.disabled = of.length === 0;
  const id = current?.getSettings().deviceId;
  if (id && of.some((d) => d.deviceId === id)) select.value = id;
}

/** Shows a microphone's level, 0 to 100, until stopped. */
export class Meter {
  /** @type {AudioContext | null} */ #context = null;
  #frame = 0;

  /** @param {MediaStreamTrack | null} track @param {(level: number) => void} show */
  start(track, show) {
    this.stop();
    show(0);
    if (!track || typeof AudioContext === "undefined") return;
    const context = (this.#context = new AudioContext());
    const analyser = context.createAnalyser();
    analyser.fftSize = 512;
    context.createMediaStreamSource(new MediaStream([track])).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const tick = () => {
      analyser.getFloatTimeDomainData(samples);
      const rms = Math.sqrt(samples.reduce((sum, v) => sum + v * v, 0) / samples.length);
      // −60 dBFS is silence, −10 dBFS is loud speech.
      show(rms > 0 ? Math.max(0, Math.min(100, ((20 * Math.log10(rms) + 60) / 50) * 100)) : 0);
      this.#frame = requestAnimationFrame(tick);
    };
    tick();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#context?.close();
    this.#context = null;
  }
}
