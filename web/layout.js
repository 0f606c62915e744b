// Where tiles go and what the room is asked for. Pure.

/** @import { Want } from "./types.js" */

/**
 * One tile of the stage.
 * @typedef {object} TileInfo
 * @property {string} key the video source's id, "<participant>/camera" or "<participant>/screen"
 * @property {string} participant
 * @property {boolean} screen
 * @property {boolean} self
 * @property {boolean} source whether the room knows this source, so that it can be wanted
 */

const ASPECT = 16 / 9;

/**
 * Columns and tile size that show n tiles as large as they can be in a box.
 * @param {number} n @param {number} width @param {number} height @param {number} gap CSS pixels
 */
export function grid(n, width, height, gap) {
  let best = { cols: 1, width: 0, height: 0 };
  for (let cols = 1; cols <= n; cols++) {
    const rows = Math.ceil(n / cols);
    const w = Math.min((width - gap * (cols - 1)) / cols, ((height - gap * (rows - 1)) / rows) * ASPECT);
    if (w > best.width) best = { cols, width: w, height: w / ASPECT };
  }
  // Below this a face is not recognisable: scroll instead.
  const least = Math.min(160, width);
  if (n > 0 && best.width < least) {
    best = { cols: Math.max(1, Math.floor((width + gap) / (least + gap))), width: least, height: least / ASPECT };
  }
  return { cols: best.cols, width: Math.floor(best.width), height: Math.floor(best.height) };
}

/**
 * The tile that the speaker layout shows large: the pinned one, else a shared
 * screen, else who speaks, else who spoke last, else the first of the others.
 * @param {TileInfo[]} tiles @param {{pinned: string, active: string, shown: string}} at active: participant; shown: key shown large so far
 */
export function pickMain(tiles, { pinned, active, shown }) {
  const others = tiles.filter((t) => !t.self);
  return (
    tiles.find((t) => t.key === pinned) ??
    others.find((t) => t.screen) ??
    others.find((t) => t.participant === active) ??
    others.find((t) => t.key === shown) ??
    others[0] ??
    tiles[0] ??
    null
  )?.key ?? "";
}

/**
 * What to ask of the room: screens and the pinned first, then who speaks, then the
 * others, each at the size at which it is shown. A tile out of sight is wanted at
 * 0×0, which keeps its seat and its sound; one that is not measured yet, at a middle size.
 * @param {TileInfo[]} tiles @param {Map<string, {width: number, height: number}>} sizes device pixels, by key
 * @param {{pinned: string, main: string, active: string}} at
 * @returns {Want[]}
 */
export function wantsOf(tiles, sizes, { pinned, main, active }) {
  /** @param {TileInfo} t */
  const rank = (t) => (t.key === pinned ? 0 : t.key === main ? 1 : t.screen ? 2 : t.participant === active ? 3 : 4);
  return tiles
    .filter((t) => !t.self && t.source)
    .map((t, i) => ({ t, i }))
    .sort((a, b) => rank(a.t) - rank(b.t) || a.i - b.i)
    .map(({ t }) => {
      const size = sizes.get(t.key) ?? { width: 640, height: 360 };
      return { source: t.key, ...size, ...(t.key === pinned && { pinned: true }) };
    });
}

/**
 * How many seats to ask for: all wanted, and a few for the loudest of the rest.
 * @param {number} wanted @param {number} people
 */
export function seatsFor(wanted, people) {
  return Math.min(49, wanted + Math.min(3, Math.max(0, people - wanted) + 1));
}
