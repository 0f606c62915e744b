// A product's own page, from its own origin, with what README.md shows and nothing more.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { openAll, openChromium } from './lib/browsers.mjs'
import { enter, idOf, report, sees } from './lib/call.mjs'
import { System, until } from './lib/system.mjs'

/** What the page consists of, by path; the rest comes from web/. @type {Record<string, string>} */ const files = {}
let server, system, origin
before(async () => {
  server = createServer(async (q, r) => {
    r.setHeader('content-type', q.url.endsWith('.js') ? 'text/javascript' : 'text/html')
    r.end(files[q.url] ?? (await readFile(`web${q.url}`).catch(() => '')))
  })
  await new Promise((ready) => server.listen(0, '127.0.0.1', ready))
  origin = `http://127.0.0.1:${server.address().port}`
  system = await System.start(['-origins', origin])
})
after(async () => {
  server.close()
  await system.stop()
})

test('the example of the README is a call', { timeout: 90_000 }, async (t) => {
  const room = await system.createRoom(['ann', 'bob'])
  const [example] = (await readFile('README.md', 'utf8')).match(/(?<=```js\n)[^]*?(?=```)/)
  const body = example
    .replace('p_1/camera', `${idOf(room, 'bob')}/camera`)
    .replace('/* seats[i].stream goes into a <video> */', 'const seat = seats.find((s) => s.video); if (seat) document.querySelector("video").srcObject = seat.stream')
  assert.ok(body.includes('srcObject') && body.includes(idOf(room, 'bob')), body)
  files['/'] = '<!doctype html><link rel="icon" href="data:,"><video autoplay muted></video><script type="module" src="product.js"></script>'
  files['/product.js'] = `
    const ws = ${JSON.stringify(room.signalling_url)}, ticket = ${JSON.stringify(room.participants[0].ticket)}
    const [track] = (await navigator.mediaDevices.getUserMedia({ video: true })).getVideoTracks()
    ${body}
    window.example = call`
  const pages = await openAll(t, openChromium, openChromium)
  const [bob, ann] = pages
  ann.name = 'ann'
  try {
    await enter(bob, room, 'bob')
    await ann.goto(origin)
    await until('the example has joined', 20_000, () => ann.evaluate(() => window.example?.state === 'joined'))
    await until('its picture plays', 20_000, () => ann.evaluate(() => { const v = document.querySelector('video'); return v.videoWidth > 0 && v.currentTime > 0.5 }))
    await sees(bob, `${idOf(room, 'ann')}/camera`, { audio: false })
    assert.deepEqual(ann.console.filter((line) => /^(error|warn|warning|pageerror)\b/.test(line)), [])
    await ann.evaluate(() => window.example.leave())
  } catch (err) {
    await report(t, [bob], system)
    t.diagnostic(ann.console.join('\n'))
    throw err
  }
})

test('a page of an origin that was not allowed is refused', { timeout: 60_000 }, async (t) => {
  const [page] = await openAll(t, openChromium)
  files['/other'] = '<!doctype html><link rel="icon" href="data:,">'
  const state = (host) => page.goto(`http://${host}:${server.address().port}/other`).then(() => page.evaluate((url) => new Promise((done) => {
    const ws = new WebSocket(url, 'mayfly.v1')
    ws.onopen = () => done('open')
    ws.onerror = () => done('refused')
  }), system.info.ws_url))
  assert.deepEqual([await state('127.0.0.1'), await state('localhost')], ['open', 'refused'])
})
