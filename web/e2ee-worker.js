// The worker that encrypts and decrypts a call's frames (RTCRtpScriptTransform). It
// gets keys from e2ee.js and never says anything but how many frames it has opened.

import { Decrypter, Encrypter, KeyRing } from "./frame-crypto.js";

const ring = new KeyRing();
/** @type {Set<Decrypter>} */ const decrypters = new Set();
/** @type {Set<() => void>} */ const refreshes = new Set();
const scope = /** @type {any} */ (globalThis);

scope.onmessage = async (/** @type {MessageEvent} */ { data }) => {
  if (data.type === "key") ring.set(data.id, data.key);
  else if (data.type === "ratchet") await ring.ratchet();
  else if (data.type === "count") {
    let opened = 0, failed = 0;
    for (const d of decrypters) [opened, failed] = [opened + d.opened, failed + d.failed];
    return scope.postMessage({ opened, failed, key: ring.current });
  }
  for (const refresh of refreshes) refresh(); // a picture that could not be opened may be now
};

scope.onrtctransform = (/** @type {any} */ { transformer }) => {
  const { side, media } = transformer.options;
  const coder = side === "send" ? new Encrypter(ring, media) : new Decrypter(ring, media);
  const refresh = () => void transformer.sendKeyFrameRequest?.()?.catch?.(() => {}); // there may be no picture
  if (coder instanceof Decrypter) {
    decrypters.add(coder);
    if (media === "video") refreshes.add(refresh);
  }
  const change = new TransformStream({
    async transform(frame, controller) {
      const bytes = new Uint8Array(frame.data);
      const changed = coder instanceof Encrypter ? await coder.encrypt(bytes) : await coder.decrypt(bytes);
      if (!changed) return;
      frame.data = changed.buffer;
      controller.enqueue(frame);
    },
  });
  transformer.readable.pipeThrough(change).pipeTo(transformer.writable).catch(() => {}).finally(() => {
    refreshes.delete(refresh);
    if (coder instanceof Decrypter) decrypters.delete(coder);
  });
};
