// End-to-end encrypted media, Chromium and Firefox: who has the key sees and hears, who
// has not decodes nothing, and the key leaves no page.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { launchChromium, openAll, openFirefox, openTab } from './lib/browsers.mjs'
import { idOf, joined, linkOf, report, seatOf, sees, seats } from './lib/call.mjs'
import { System, until } from './lib/system.mjs'

const KEY = 'MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY'
const WRONG = 'eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHh4eHg'

/** @type {System} */ let system
before(async () => { system = await System.start() })
after(() => system.stop())

/** noteSent runs in the page before its scripts: window.sent is all that it says to the service. */
function noteSent() {
  window.sent = []
  for (const of of [WebSocket, RTCDataChannel]) {
    const real = of.prototype.send
    of.prototype.send = function (data) { window.sent.push(String(data)); return real.call(this, data) }
  }
}

test('encrypted media play for those with the key alone', { timeout: 90_000 }, async (t) => {
  const refused = await system.api('POST', '/v1/rooms', { e2ee: true, recording: true })
  assert.equal(refused.status, 400)
  assert.equal(refused.body.errors[0].pointer, '/recording')
  const room = await system.createRoom(['ann', 'bob', 'cat'], { e2ee: true })
  const chromium = await launchChromium()
  t.after(() => chromium.close())
  const [ann, bob, cat] = await openAll(t, () => openTab(chromium, { init: noteSent }), () => openFirefox({ init: noteSent }), () => openTab(chromium))
  const camera = (name) => `${idOf(room, name)}/camera`
  const enter = async (page, name, key) => {
    page.name = name
    await page.goto(`${linkOf(room, name)}&key=${key}`)
    await joined(page)
  }
  const counts = (page) => page.evaluate(() => window.mayfly.e2ee.count())
  try {
    cat.name = 'cat'
    await cat.goto(linkOf(room, 'cat'))
    await until('without a key the page stays out', 5000, () => cat.evaluate(() => !document.getElementById('over').hidden && document.getElementById('over-code').textContent === '' && document.getElementById('over-title').textContent.includes('key')))

    await cat.goto('about:blank') // another fragment alone loads no page
    await Promise.all([enter(ann, 'ann', KEY), enter(bob, 'bob', KEY), enter(cat, 'cat', WRONG)])
    const [atAnn, atBob] = await Promise.all([sees(ann, camera('bob')), sees(bob, camera('ann'))])
    t.diagnostic(`ann (Chromium) receives bob at ${atAnn.width}×${atAnn.height}, bob (Firefox) receives ann at ${atBob.width}×${atBob.height}`)

    const c = await until('encrypted frames reach cat', 10_000, async () => { const c = await counts(cat); return c.failed > 100 && c })
    assert.equal(c.opened, 0)
    for (const s of await seats(cat)) assert.ok(!(s.framesDecoded > 0) && !(s.audioEnergy > 0), `cat decodes ${JSON.stringify(s)}`)

    // A new key for those who have the first; what follows from it goes along by itself.
    for (const page of [ann, bob]) await page.evaluate((key) => window.mayfly.e2ee.setKey(9, key), WRONG.replace('eHh4', 'eXl5'))
    await ann.evaluate(() => window.mayfly.e2ee.ratchet())
    await until('bob goes along with the ratchet', 5000, async () => (await counts(bob)).key === 10)
    const before = await seatOf(bob, camera('ann'))
    await until('bob decodes on', 5000, async () => (await seatOf(bob, camera('ann'))).framesDecoded > before.framesDecoded + 15)

    // With the key, cat too sees: what it was sent was the media, and not something else.
    await cat.evaluate((key) => { window.mayfly.e2ee.setKey(9, key); window.mayfly.e2ee.ratchet() }, WRONG.replace('eHh4', 'eXl5'))
    await sees(cat, camera('ann'))

    for (const page of [ann, bob]) {
      const sent = await page.evaluate(() => window.sent.join('\n'))
      assert.ok(sent.includes('"type":"join"') && !sent.includes(KEY.slice(0, 20)), 'the key was sent')
      assert.ok(!(await page.evaluate(() => performance.getEntriesByType('resource').map((e) => e.name).join())).includes(KEY))
      assert.ok(!(await page.evaluate(() => location.href)).includes('key='), 'the key stays in the address bar')
    }
    assert.ok(!system.log.includes(KEY.slice(0, 20)))
  } catch (err) {
    await report(t, [ann, bob, cat], system)
    throw err
  }
})
