// The call page as people meet it: by keyboard, with a lost WebSocket, after a reload,
// with links that do not work, with names and words that mean harm, in a crowd.
import assert from 'node:assert/strict'
import { execFileSync, spawn } from 'node:child_process'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, test } from 'node:test'
import { openAll, openChromium, openFirefox } from './lib/browsers.mjs'
import { enter, idOf, joined, leave, linkOf, report, seatOf, seats, sees, urlOf } from './lib/call.mjs'
import { System, until } from './lib/system.mjs'

/** @type {System} */ let system
let early // a room whose ticket ages while the other tests run
before(async () => {
  system = await System.start()
  early = { at: Date.now(), room: await system.createRoom([], { participants: [{ identity: 'old', name: 'old', ttl_s: 10 }] }) }
  await mkdir('out/e2e', { recursive: true })
})
after(() => system.stop())

// What a product might be handed: markup, emoji that are several code points each.
const MARKUP = '<img src=x onerror="window.harm=1"><script>window.harm=1</script>'
const EMOJI = '👩🏽‍🚀'.repeat(16) // 64 code points
const RTL = '\u202eabc\u202c <b>مرحبا</b> '

/** watchSockets lets a test cut the page's WebSockets. */
const watchSockets = () => {
  const Real = window.WebSocket
  window.testSockets = []
  window.WebSocket = class extends Real {
    constructor(...args) {
      super(...args)
      window.testSockets.push(this)
    }
  }
}

/** pressed is what an assistive technology is told of a button. */
const pressed = (page, id) => page.evaluate((i) => document.getElementById(i).getAttribute('aria-pressed'), id)

/** focused describes the focus: the element's id, and whether an outline shows it. */
const focused = (page) => page.evaluate(() => {
  const style = getComputedStyle(document.activeElement)
  return { id: document.activeElement.id, outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0 }
})

/** tabTo presses Tab until an element has the focus, which must show all the way. */
async function tabTo(page, id) {
  for (let n = 0; n < 20; n++) {
    await page.press('Tab')
    const at = await focused(page)
    if (at.id) assert.ok(at.outline, `the focus on ${at.id} is visible`)
    if (at.id === id) return
  }
  assert.fail(`Tab does not reach ${id}`)
}

/** tile is what a page shows of a participant's camera. */
const tile = (page, id) => page.evaluate((i) => {
  const el = document.querySelector(`[data-source="${i}/camera"]`)
  return el && { label: el.getAttribute('aria-label'), blank: el.classList.contains('blank'), muted: el.classList.contains('muted') }
}, id)

/** clean asserts that a page had nothing to complain about, and ran nothing foreign. */
async function clean(page) {
  const bad = page.console.filter((line) => /^(error|warn|warning|pageerror)\b|Content.Security.Policy/i.test(line))
  assert.deepEqual(bad, [], `${page.name}: the console is empty`)
  assert.equal(await page.evaluate(() => window.harm), undefined, `${page.name}: no foreign script ran`)
}

test('a call by keyboard, among hostile names; a lost WebSocket; a reload', { timeout: 150_000 }, async (t) => {
  const created = await system.api('POST', '/v1/rooms', {
    empty_timeout_s: 2,
    participants: [{ identity: 'ann', name: MARKUP.slice(0, 64) }, { identity: 'bob', name: EMOJI }],
  })
  assert.equal(created.status, 201, JSON.stringify(created.body))
  const room = created.body
  const [ann, bob] = await openAll(t, () => openChromium({ init: watchSockets }), openFirefox)
  const [annID, bobID] = [idOf(room, 'ann'), idOf(room, 'bob')]
  ann.name = 'ann'
  try {
    const bobIn = enter(bob, room, 'bob')
    await t.test('the page before the call', async () => {
      await ann.goto(urlOf(room, 'ann'))
      await until('the preview plays', 10_000, () => ann.evaluate(() => document.getElementById('preview').videoWidth > 0))
      await until('the room is ready', 10_000, () => ann.evaluate(() => document.getElementById('room-text').textContent === 'Your room is ready.'))
      const seen = await ann.evaluate(() => ({
        mics: document.getElementById('mics').options.length, cameras: document.getElementById('cameras').options.length,
        name: document.getElementById('name').value, readOnly: document.getElementById('name').readOnly,
        role: document.getElementById('room-status').getAttribute('role'), ticket: location.href.includes('ticket='),
      }))
      assert.ok(seen.mics >= 1 && seen.cameras >= 1, JSON.stringify(seen))
      assert.deepEqual([seen.name, seen.readOnly, seen.role, seen.ticket], [MARKUP.slice(0, 64), true, 'status', false])
      await ann.press('d')
      assert.equal(await pressed(ann, 'pre-mic'), 'true')
      await ann.press('d')
      assert.equal(await pressed(ann, 'pre-mic'), 'false')
      await tabTo(ann, 'join')
      await ann.press('Enter')
      await joined(ann)
      ann.since = Date.now()
    })

    await bobIn
    await Promise.all([sees(ann, `${bobID}/camera`), sees(bob, `${annID}/camera`)])

    await t.test('D mutes and unmutes', async () => {
      await ann.press('d')
      assert.equal(await pressed(ann, 'mic'), 'true')
      await until('bob is shown that ann is muted', 5000, async () => (await tile(bob, annID)).muted)
      assert.match((await tile(bob, annID)).label, /, muted/)
      const energy = async () => (await seatOf(bob, `${annID}/camera`)).audioEnergy
      // What is in bob's jitter buffer plays out first.
      let last = -1
      await until('bob hears nothing more', 5000, async () => {
        await new Promise((r) => setTimeout(r, 300))
        const now = await energy()
        const still = now - last < 1e-6
        last = now
        return still
      })
      await ann.press('d')
      assert.equal(await pressed(ann, 'mic'), 'false')
      await until('bob hears ann again', 5000, async () => (await energy()) > last + 1e-4)
      assert.equal((await tile(bob, annID)).muted, false)
    })

    for (const [page, id, other] of [[ann, annID, bob], [bob, bobID, ann]]) {
      await t.test(`E turns the camera off, and on again within 2 s (${page.kind})`, async () => {
        await page.press('e')
        await until('the camera is off', 5000, async () => (await pressed(page, 'camera')) === 'true')
        await until('the other sees a placeholder', 5000, async () => { const s = await tile(other, id); return s.blank && s.label.includes('Camera off') })
        // Neither black frames nor padding for a camera that is off: what is left is sound.
        await until('no picture is sent', 8000, async () => {
          const out = () => page.evaluate(async () => (await window.mayfly.call.stats()).bytesOut)
          const before = await out()
          await new Promise((r) => setTimeout(r, 500))
          return (await out()) - before < 10_000
        })
        // An offer that is made meanwhile agrees on the resting layers too.
        const more = await page.evaluate(async () => { await window.mayfly.call.grow(10); return window.mayfly.call.peerConnection.getTransceivers().length })
        assert.ok(more >= 2 * 10, `${more} transceivers`)
        await until('the offer is answered', 5000, () => page.evaluate(() => window.mayfly.call.peerConnection.signalingState === 'stable'))
        const { framesDecoded } = await seatOf(other, `${id}/camera`)
        await page.press('e')
        await until('the camera is on', 5000, async () => (await pressed(page, 'camera')) === 'false')
        const at = Date.now()
        await until('the other decodes again', 5000, async () => (await seatOf(other, `${id}/camera`)).framesDecoded > framesDecoded + 3)
        const ms = Date.now() - at
        t.diagnostic(`decoded ${ms} ms after ${page.kind}'s camera is on again`)
        assert.ok(ms <= 2000, `${ms} ms`)
        await until('and shows it', 5000, async () => !(await tile(other, id)).blank)
        await until('at full size', 15_000, async () => (await seatOf(other, `${id}/camera`)).width >= 640)
      })
    }

    await t.test('layout, and words as words', async () => {
      await tabTo(ann, 'layout')
      await ann.press('Enter')
      assert.ok(await ann.evaluate((id) => document.querySelector(`#main [data-source="${id}/camera"]`) !== null, bobID), 'bob is large')
      await ann.press('Enter')
      assert.ok(await ann.evaluate(() => document.querySelector('#main > *') === null))
      await tabTo(ann, 'chat-toggle')
      await ann.press('Enter')
      assert.deepEqual(await focused(ann), { id: 'chat-text', outline: true })
      assert.equal(await ann.evaluate(() => document.getElementById('chat-toggle').getAttribute('aria-expanded')), 'true')
      for (const text of [MARKUP, RTL + EMOJI]) {
        await ann.type(text)
        await ann.press('Enter')
        await until('bob has the words', 5000, () => bob.evaluate((s) => [...document.querySelectorAll('#messages li')].some((li) => li.textContent.endsWith(s.trim())), text))
      }
      assert.equal(await bob.evaluate(() => document.querySelectorAll('#messages img, #messages script, #messages li b b, .tile img').length), 0)
      assert.equal(await bob.evaluate(() => document.getElementById('unread').textContent), '2')
      await ann.press('Escape')
      assert.equal((await focused(ann)).id, 'chat-toggle')
      assert.ok((await tile(bob, annID)).label.startsWith(MARKUP.slice(0, 64)))
      assert.ok((await tile(ann, bobID)).label.startsWith(EMOJI))
    })

    await t.test('a lost WebSocket does not touch media', async () => {
      await ann.evaluate(() => {
        window.before = window.mayfly.call.peerConnection
        window.ups = []
        window.mayfly.call.on('connection', (c) => window.ups.push(c.signalling))
        window.testSockets.at(-1).close()
      })
      const { framesDecoded } = await seatOf(ann, `${bobID}/camera`)
      await until('signalling is back', 10_000, () => ann.evaluate(() => window.ups[0] === false && window.ups.at(-1) === true))
      await until('frames went on', 5000, async () => (await seatOf(ann, `${bobID}/camera`)).framesDecoded > framesDecoded + 10)
      const after = await ann.evaluate(() => ({
        same: window.before === window.mayfly.call.peerConnection, state: window.mayfly.call.state, sockets: window.testSockets.length,
      }))
      assert.deepEqual([after.same, after.state], [true, 'joined'])
      assert.ok(after.sockets >= 2)
    })

    await t.test('a reload comes back without the ticket', async () => {
      await ann.reload()
      await joined(ann)
      assert.equal(await ann.evaluate(() => window.mayfly.call.participant), annID)
      await Promise.all([sees(ann, `${bobID}/camera`), sees(bob, `${annID}/camera`)])
      assert.equal(await bob.evaluate(() => document.querySelectorAll('.tile:not(.self)').length), 1, 'bob sees one ann')
    })

    await t.test('Leave, by keyboard', async () => {
      await tabTo(ann, 'leave')
      await ann.press('Enter')
      await until('ann is out', 5000, () => ann.evaluate(() => !document.getElementById('over').hidden))
      assert.deepEqual(await ann.evaluate(() => [document.getElementById('over-title').textContent, document.activeElement.id]), ['You left the call', 'over-title'])
      await until('bob is alone', 5000, async () => (await tile(bob, annID)) === null)
      await leave(bob)
    })
    await Promise.all([clean(ann), clean(bob)])
  } catch (err) {
    await report(t, [ann, bob], system)
    throw err
  }
})

/** Robots is the helper program that lets Go clients join. */
class Robots {
  static start() {
    const r = new Robots()
    const binary = join(system.dir, 'robots')
    execFileSync('go', ['build', '-o', binary, './test/robot/cmd'])
    r.process = spawn(binary, { stdio: ['pipe', 'pipe', 'inherit'] })
    r.lines = createInterface({ input: r.process.stdout })[Symbol.asyncIterator]()
    r.exited = new Promise((done) => r.process.once('exit', done))
    return r
  }

  async do(order) {
    this.process.stdin.write(JSON.stringify(order) + '\n')
    const { value, done } = await this.lines.next()
    assert.ok(!done, 'the robots have died')
    return JSON.parse(value)
  }

  async stop() {
    this.process.stdin.end()
    return this.exited
  }
}

/** received is what came in over each seat: {video, audio} packets by source. */
const received = (page) => page.evaluate(async () => {
  const call = window.mayfly.call
  const byMid = new Map()
  for (const s of (await call.peerConnection.getStats()).values()) if (s.type === 'inbound-rtp') byMid.set(s.mid, s.packetsReceived)
  const mids = call.peerConnection.getTransceivers().map((tr) => [tr.receiver.track, tr.mid])
  const packets = (track) => byMid.get(mids.find(([of]) => of === track)?.[1]) ?? 0
  return Object.fromEntries(call.seating.flatMap((s) => [
    ...(s.video ? [[s.video, packets(s.stream.getVideoTracks()[0])]] : []),
    ...(s.audio ? [[s.audio, packets(s.stream.getAudioTracks()[0])]] : []),
  ]))
})

/** corner is what the page says of the connection. */
const corner = (page) => page.evaluate(() => document.getElementById('connection-state').textContent)

/**
 * drawn says whether each of the sources has been drawn and gone on by three frames since
 * it was first looked at; which of them rest for a moment does not matter.
 */
const drawn = (page, sources) => page.evaluate(async (all) => {
  const first = (window.testDrawn ??= {})
  const { seats } = await window.mayfly.call.stats()
  for (const { seat, video } of window.mayfly.call.seating) {
    const frames = seats.find((s) => s.seat === seat)?.framesDecoded ?? 0
    const picture = document.querySelector(`[data-source="${video}"] video`)
    if (!all.includes(video) || !(picture?.videoWidth > 0) || frames === 0) continue
    first[video] ??= { frames, on: false }
    if (frames >= first[video].frames + 3 && !picture.closest('.blank')) first[video].on = true
  }
  return all.every((s) => first[s]?.on)
}, sources)

test('a crowd: the loudest are heard, seats grow', { timeout: 180_000 }, async (t) => {
  const quiet = Array.from({ length: 10 }, (_, i) => `voice${i}`)
  const filmed = Array.from({ length: 10 }, (_, i) => `face${i}`)
  const room = await system.createRoom(['ann', ...quiet, ...filmed])
  const tickets = (names) => names.map((n) => room.participants.find((p) => p.identity === n).ticket)
  const robots = Robots.start()
  t.after(async () => assert.equal(await robots.stop(), 0, 'the robots left in good order'))
  const [page] = await openAll(t, () => openChromium({ width: 1000, height: 700 }))
  try {
    await enter(page, room, 'ann')
    const said = await until('media is up', 10_000, () => page.evaluate(() => window.mayfly.call.peerConnection.connectionState === 'connected' && document.getElementById('connection-state').textContent))
    assert.notEqual(said, 'Connecting…', 'the corner says so, before there are any figures')
    await robots.do({ do: 'join', ws: system.info.ws_url, tickets: tickets(quiet), sound_only: true })
    await until('all are there', 20_000, () => page.evaluate(() => window.mayfly.call.participants.size === 10))
    const heard = async () => (await seats(page)).map((s) => s.audio).filter(Boolean)
    await page.press('d') // its microphone must not be the loudest
    await until('8 seats carry 8 of the 10 voices', 10_000, async () => (await heard()).length === 8)

    const voices = quiet.map((n, i) => [i, `${idOf(room, n)}/mic`])
    const listed = await heard()
    const [robot, mic] = voices.find(([, m]) => !listed.includes(m))
    await robots.do({ do: 'speak', robot, loud: true })
    await until('who begins to speak is heard', 10_000, async () => (await heard()).includes(mic) && (await received(page))[mic] > 0)
    assert.equal((await heard()).length, 8)
    await until('and marked as the speaker', 10_000, () => page.evaluate((id) => document.querySelector(`[data-source^="${id}"]`).classList.contains('speaking'), mic.split('/')[0]))

    await robots.do({ do: 'join', ws: system.info.ws_url, tickets: tickets(filmed) })
    await until('a seat for every face', 45_000, async () => (await seats(page)).filter((s) => s.source).length === 10)
    const cameras = filmed.map((n) => `${idOf(room, n)}/camera`)
    await until('packets of every face and its voice', 45_000, async () => {
      const got = await received(page)
      return cameras.every((c) => got[c] > 10 && got[c.replace('camera', 'mic')] > 10)
    })
    const all = await seats(page)
    t.diagnostic(`${all.length} seats: ${all.filter((s) => s.source).length} with a picture, ${all.filter((s) => !s.source).length} with sound only`)
    assert.ok(all.some((s) => !s.source && s.audio === mic), 'the loudest voice keeps a seat')
    assert.ok(await page.evaluate(() => window.mayfly.call.peerConnection.getTransceivers().length > 2 * 8 + 4), 'by a second offer')
    await until('every face is drawn, and moves', 60_000, () => drawn(page, cameras))
    assert.match(await corner(page), /connection/, 'the corner says how it is')
    await page.screenshot('out/e2e/crowd.png')
    await leave(page)
  } catch (err) {
    await report(t, [page], system)
    throw err
  }
})

test('whoever runs the call turns a microphone off, and on again', { timeout: 90_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob'])
  const pages = await openAll(t, openChromium, () => openChromium({ width: 1000, height: 700 }))
  const [ann, bob] = pages
  const order = async (body) => {
    const r = await system.api('PATCH', `/v1/rooms/${room.id}/participants/${idOf(room, 'ann')}`, body)
    assert.equal(r.status, 200, JSON.stringify(r.body))
  }
  const shown = () => ann.evaluate(() => ({
    label: document.querySelector('#mic span').textContent, title: document.getElementById('mic').title,
    held: document.getElementById('mic').classList.contains('held'), banner: document.getElementById('banner').textContent,
    chat: document.getElementById('chat-text').disabled,
  }))
  try {
    await Promise.all([enter(ann, room, 'ann'), enter(bob, room, 'bob')])
    await until('bob sees that ann speaks freely', 20_000, async () => (await tile(bob, idOf(room, 'ann')))?.muted === false)
    await order({ muted: { mic: true }, grants: { publish: ['mic', 'camera', 'screen', 'screen-audio'], subscribe: true, chat: false, moderate: false } })
    await until('ann is told', 10_000, async () => (await shown()).held)
    const off = await shown()
    assert.deepEqual([off.label, off.title, off.chat], ['Turned off', 'Turned off by whoever runs this call', true])
    assert.equal(off.banner, 'Whoever runs this call has turned off your microphone.')
    await until('bob is shown that ann is muted', 10_000, async () => (await tile(bob, idOf(room, 'ann'))).muted)
    await ann.press('d') // what is turned off can be muted: it comes back as it is then
    assert.equal(await pressed(ann, 'mic'), 'true')
    await ann.screenshot('out/e2e/turned-off.png')
    await order({ muted: { mic: false }, grants: { publish: ['mic', 'camera', 'screen', 'screen-audio'], subscribe: true, chat: true, moderate: false } })
    await until('ann is told', 10_000, async () => !(await shown()).held)
    const on = await shown()
    assert.deepEqual([on.label, on.chat, on.banner], ['Unmute', false, 'You may use your microphone again.'])
    assert.equal((await tile(bob, idOf(room, 'ann'))).muted, true, 'until she unmutes')
    await ann.press('d')
    await until('bob sees that ann speaks again', 10_000, async () => !(await tile(bob, idOf(room, 'ann'))).muted)
  } catch (err) {
    await report(t, pages, system)
    throw err
  }
})

test('links that do not work say why', { timeout: 90_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bad'])
  const [page] = await openAll(t, () => openChromium({ width: 1000, height: 700 }))
  page.name = 'page'
  /** fails opens a link anew, as another person would, and expects a code on the last page. */
  const fails = async (url, title, code) => {
    await page.goto('about:blank')
    await page.goto(url)
    await page.evaluate(() => window.mayfly?.call.over || document.getElementById('join').click())
    await until(`the page says ${code || title}`, 10_000, () => page.evaluate(() => !document.getElementById('over').hidden))
    const shown = await page.evaluate(() => ['title', 'text', 'code'].map((x) => document.getElementById(`over-${x}`).textContent))
    assert.equal(shown[0], title)
    assert.ok(shown[1].length > 10)
    assert.equal(shown[2], code && `Code: ${code}`)
  }
  await page.goto(linkOf(room, 'ann'))
  await joined(page)
  await page.evaluate(() => sessionStorage.clear()) // another person has the link, but not this tab's memory
  await fails(urlOf(room, 'ann'), 'This link was used before', 'ticket_used')
  await fails(urlOf(room, 'bad').replace(/ticket=([^&]{20})[^&]/, 'ticket=$1!'), 'This link does not work', 'ticket_invalid')
  await fails(urlOf(room, 'bad').replace(/#.*/, ''), 'This page needs a link', '')
  // 10 s are the shortest life a ticket can have, and clocks may be 30 s apart.
  await new Promise((r) => setTimeout(r, Math.max(0, early.at + 42_000 - Date.now())))
  await fails(urlOf(early.room, 'old'), 'This link is too old', 'ticket_expired')
  await page.screenshot('out/e2e/over.png')
  await system.api('DELETE', `/v1/rooms/${room.id}`)
  await fails(urlOf(room, 'bad'), 'The call is over', '')
})
