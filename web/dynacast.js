// Which layers of an own video are sent. The room says how many anybody looks at
// (docs/protocol.md, publish); what is muted or has no track sends none. Pure.

/** @import { Publish } from "./types.js" */

/**
 * Sets what each encoding of a sender is to do; returns whether anything changed.
 * Simulcast layers are switched by rid. A single encoding with spatial layers (SVC)
 * keeps the lowest of them: modes holds the scalability mode that it began with.
 * @param {RTCRtpEncodingParameters[]} encodings are changed
 * @param {boolean} sending whether there is a track to send
 * @param {Publish | null} wanted null: all, the room has not said otherwise
 * @param {Map<string, string>} modes by rid, kept from call to call
 */
export function tune(encodings, sending, wanted, modes) {
  let changed = false;
  for (const e of encodings) {
    const active = sending && (wanted === null || (e.rid && encodings.length > 1 ? (wanted.rids ?? []).includes(e.rid) : wanted.layers > 0));
    if ((e.active ?? true) !== active) {
      e.active = active;
      changed = true;
    }
    const mode = /** @type {any} */ (e).scalabilityMode;
    if (!mode || encodings.length > 1) continue;
    if (!modes.has(e.rid ?? "")) modes.set(e.rid ?? "", mode);
    const next = active ? lower(modes.get(e.rid ?? "") ?? mode, wanted?.layers ?? Infinity) : mode;
    if (next !== mode) {
      /** @type {any} */ (e).scalabilityMode = next;
      changed = true;
    }
  }
  return changed;
}

/**
 * A scalability mode with at most so many spatial layers; L3T3_KEY of 1 is L1T3, for
 * a single layer has nothing to depend on.
 * @param {string} mode @param {number} layers
 */
export function lower(mode, layers) {
  const [, spatial, rest, suffix] = /^L(\d)(T\d)(.*)$/.exec(mode) ?? [];
  if (!spatial || layers >= Number(spatial) || layers < 1) return mode;
  return layers === 1 ? `L1${rest}` : `L${layers}${rest}${suffix}`;
}
