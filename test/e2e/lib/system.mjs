// Starts the whole system (bin/mayfly local) on a free port, for one test file, and
// stops it again. Only processes started here are ever killed, by pid.
import { spawn } from 'node:child_process'
import { copyFile, mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = resolve(fileURLToPath(import.meta.url), '../../../..')

/** until polls a condition that crosses processes; it fails with what, after ms. */
export async function until(what, ms, check) {
  const end = Date.now() + ms
  for (let last; ; ) {
    try {
      last = await check()
      if (last) return last
    } catch (err) {
      last = err
    }
    if (Date.now() > end) throw new Error(`not within ${ms} ms: ${what} (last: ${last instanceof Error ? last.message : JSON.stringify(last)})`)
    await new Promise((r) => setTimeout(r, 50))
  }
}

export class System {
  /** @param {string[]} flags of mayfly local */
  static async start(flags = []) {
    const s = new System()
    s.dir = await mkdtemp(join(tmpdir(), 'mayfly-e2e-'))
    s.log = ''
    s.process = spawn(join(root, 'bin/mayfly'), ['local', '-addr', '127.0.0.1:0', '-out', s.dir, '-data', join(s.dir, 'data'), ...flags], {
      cwd: s.dir, stdio: ['ignore', 'pipe', 'pipe'],
    })
    for (const stream of [s.process.stdout, s.process.stderr]) stream.on('data', (d) => { s.log += d })
    s.exited = new Promise((r) => s.process.once('exit', (code, signal) => { s.gone = { code, signal }; r() }))
    s.info = await until('mayfly local is up', 10_000, async () => {
      if (s.gone) throw new Error(`mayfly local exited: ${JSON.stringify(s.gone)}\n${s.log}`)
      return JSON.parse(await readFile(join(s.dir, 'local.json'), 'utf8'))
    })
    return s
  }

  /** api calls the HTTP API; it returns {status, body, headers}. */
  async api(method, path, body, headers = {}) {
    const r = await fetch(this.info.url + path, {
      method,
      headers: { authorization: `Bearer ${this.info.api_key}`, ...(body ? { 'content-type': 'application/json' } : {}), ...headers },
      body: body ? JSON.stringify(body) : undefined,
    })
    const text = await r.text()
    return { status: r.status, headers: r.headers, body: text ? JSON.parse(text) : undefined }
  }

  /** createRoom makes a room for the named participants. */
  async createRoom(names, extra = {}) {
    const r = await this.api('POST', '/v1/rooms', { empty_timeout_s: 2, participants: names.map((n) => ({ identity: n, name: n })), ...extra })
    if (r.status !== 201) throw new Error(`create: ${r.status} ${JSON.stringify(r.body)}`)
    return r.body
  }

  /** taskPid finds the room task's process. */
  async taskPid(room) {
    const { execFile } = await import('node:child_process')
    const out = await new Promise((res) => execFile('pgrep', ['-P', String(this.process.pid)], (_e, o) => res(o ?? '')))
    for (const pid of out.trim().split('\n').filter(Boolean)) {
      const env = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '')
      if (env.split('\0').includes(`MAYFLY_ROOM=${room}`)) return Number(pid)
    }
    return 0
  }

  async stop() {
    if (!this.gone) this.process.kill('SIGTERM')
    const cut = setTimeout(() => this.process.kill('SIGKILL'), 15_000)
    await this.exited
    clearTimeout(cut)
    // For scripts/canary.sh, which looks for what no log may hold.
    if (process.env.MAYFLY_LOGS) {
      for (const name of ['functions.log', 'tasks.log']) await copyFile(join(this.dir, name), join(process.env.MAYFLY_LOGS, `e2e-${this.process.pid}-${name}`))
    }
    await rm(this.dir, { recursive: true, force: true })
  }
}

/** dropsSoFar counts the datagrams that full sockets of this network namespace dropped. */
export async function dropsSoFar() {
  const [names, values] = (await readFile('/proc/net/snmp', 'utf8')).split('\n').filter((l) => l.startsWith('Udp:')).map((l) => l.split(' '))
  return Number(values[names.indexOf('RcvbufErrors')])
}
