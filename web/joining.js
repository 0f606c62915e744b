// The join as it is sent: what a client says about itself with its offer. Pure.

import { sends } from "./peer.js";
import { MAX_FRAME_BYTES, byteLength, encodeFrame } from "./wire.js";

/** @import { CallOptions, Kind, Local, Offer, View } from "./types.js" */

/**
 * Says of an offer, which may have been made a while ago, which own sources are silent
 * by now.
 * @param {Offer} offer @param {Record<Kind, Local>} local @returns {Offer}
 */
export function current(offer, local) {
  const sources = offer.sources?.map(({ mid, kind }) => ({ mid, kind, ...(!sends(local[kind]) && { muted: true }) }));
  return { ...offer, ...(sources && { sources }) };
}

/**
 * @param {CallOptions} options @param {{ticket: string} | {resume: string}} secret @param {string} attempt
 * @param {Offer} offer @param {View} view
 */
export function joinBody({ name, sdk, browser }, secret, attempt, offer, view) {
  return { ...secret, attempt, offer, view, ...(name && { name }), ...((sdk || browser) && { client: { sdk, browser } }) };
}

/** Whether the gateway would take it as one frame. @param {unknown} body */
export const fits = (body) => byteLength(encodeFrame("join", 1e6, body)) <= MAX_FRAME_BYTES;
