// Every codec that the room forwards, in real browsers: one after the other publishes
// with another codec, and takes the same seat at two viewers that stay.
import assert from 'node:assert/strict'
import { mkdir } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { openAll, openChromium, openFirefox } from './lib/browsers.mjs'
import { enter, idOf, leave, report, seatOf } from './lib/call.mjs'
import { System, until } from './lib/system.mjs'

/** @type {System} */ let system
before(async () => {
  system = await System.start()
  await mkdir('out/e2e', { recursive: true })
})
after(() => system.stop())

const CODECS = ['vp8', 'h264', 'vp9', 'av1']

/** able says which of the codecs a page's browser can send and receive. */
const able = (page) => page.evaluate((codecs) => {
  const of = (side) => codecs.filter((c) => side.getCapabilities('video').codecs.some((x) => x.mimeType.toLowerCase() === `video/${c}`))
  return { send: of(RTCRtpSender), receive: of(RTCRtpReceiver) }
}, CODECS)

/** decoding is the codec and size that a page decodes in a seat. */
const decoding = (page, seat) => page.evaluate(async (n) => {
  const call = window.mayfly.call
  const mid = call.seating.find((s) => s.seat === n)?.stream.getVideoTracks()[0].id
  const stats = await call.peerConnection.getStats()
  for (const s of stats.values()) {
    if (s.type === 'inbound-rtp' && s.kind === 'video' && s.trackIdentifier === mid) {
      return { codec: (stats.get(s.codecId)?.mimeType ?? '').toLowerCase(), width: s.frameWidth, frames: s.framesDecoded, freezes: s.freezeCount }
    }
  }
  return {}
}, seat)

/** look asks for a source at a size, instead of what the page's layout asks for. */
const look = (page, source, width, height) => page.evaluate(([s, w, h]) => {
  const call = window.mayfly.call
  window.realView ??= call.view.bind(call)
  call.view = () => {}
  window.realView([{ source: s, width: w, height: h }])
}, [source, width, height])

/** noteSize keeps the size of the longest frame that the page sent over its WebSocket. */
const noteSize = () => {
  const send = WebSocket.prototype.send
  window.longest = 0
  WebSocket.prototype.send = function (text) {
    window.longest = Math.max(window.longest, new TextEncoder().encode(text).length)
    return send.call(this, text)
  }
}

/** shows waits until a page decodes more of a source than it has, with the codec. */
async function shows(page, source, codec) {
  const seat = (await until(`${page.name} has a seat for ${source}`, 10_000, () => seatOf(page, source))).seat
  const begun = (await decoding(page, seat)).frames ?? 0
  const s = await until(`${page.name} decodes ${codec}`, 15_000, async () => {
    const d = await decoding(page, seat)
    return d.codec === `video/${codec}` && d.frames >= begun + 10 && { ...d, seat }
  })
  return s
}

test('VP8, H.264, VP9 and AV1 in one seat, one after the other', { timeout: 150_000 }, async (t) => {
  const room = await system.createRoom(['viewer', 'fox', ...CODECS])
  const [viewer, fox, publisher] = await openAll(t, () => openChromium({ init: noteSize }), openFirefox, () => openChromium({ width: 420, height: 360 }))
  try {
    await Promise.all([enter(viewer, room, 'viewer'), enter(fox, room, 'fox')])
    const bytes = await viewer.evaluate(() => window.longest)
    assert.ok(bytes > 5000 && bytes <= 32 * 1024, `the join has ${bytes} bytes`)
    const can = { viewer: await able(viewer), fox: await able(fox) }
    t.diagnostic(`Chromium sends ${can.viewer.send}, receives ${can.viewer.receive}; Firefox receives ${can.fox.receive}; the join has ${bytes} bytes`)
    // Only the publisher's camera counts here.
    await Promise.all([viewer, fox].map((p) => p.evaluate(() => window.mayfly.call.setTrack('camera', null))))
    const seats = new Set()
    for (const codec of CODECS.filter((c) => can.viewer.send.includes(c))) {
      await enter(publisher, room, codec, { codec })
      const source = `${idOf(room, codec)}/camera`
      const began = Date.now()
      if (seats.size > 0) await look(viewer, source, 1280, 720)
      const at = await shows(viewer, source, codec)
      seats.add(at.seat)
      t.diagnostic(`${codec}: Chromium decodes ${at.width} wide after ${Date.now() - began} ms, ${at.freezes} freezes`)
      // A small view takes a lower layer, a large one the highest, within the same seat.
      await look(viewer, source, 160, 90)
      const small = await until(`${codec} is received small`, 10_000, async () => {
        const d = await decoding(viewer, at.seat)
        return d.width > 0 && d.width <= 320 && d
      })
      await look(viewer, source, 1280, 720)
      const large = await until(`${codec} is received large`, 15_000, async () => {
        const d = await decoding(viewer, at.seat)
        return d.width > small.width && d.frames > small.frames + 10 && d
      })
      t.diagnostic(`${codec}: ${small.width} wide in a small view, ${large.width} in a large one`)
      if (can.fox.receive.includes(codec)) {
        await shows(fox, source, codec)
      } else {
        const paused = await until(`Firefox is told why it does not see ${codec}`, 5000, async () => (await seatOf(fox, source))?.paused)
        assert.equal(paused, 'codec')
      }
      await leave(publisher)
    }
    assert.equal(seats.size, 1, 'the publishers took the same seat')
    await Promise.all([leave(viewer), leave(fox)])
  } catch (err) {
    await report(t, [viewer, fox, publisher], system)
    throw err
  }
})
