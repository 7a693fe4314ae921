// Starts the programs that the tests talk to: `authz dev`, which brings its own
// Postgres, and examples/carrier-api, an API behind it.
import { spawn, execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as oauth from 'oauth4webapi'

const root = dirname(dirname(fileURLToPath(import.meta.url)))

// build compiles both programs into a folder of their own, once.
export function build() {
  const folder = mkdtempSync(join(tmpdir(), 'authz-interop-'))
  execFileSync('go', ['build', '-o', folder + '/', './cmd/authz', './examples/carrier-api'], { cwd: root, stdio: 'inherit' })
  return { folder, remove: () => rmSync(folder, { recursive: true, force: true }) }
}

// freePort is a port that nobody listens on at the moment.
function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

// firstLine waits for the one line that `authz dev --json` prints when ready.
function firstLine(child) {
  return new Promise((resolve, reject) => {
    let text = ''
    child.stdout.on('data', (chunk) => {
      text += chunk
      if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')))
    })
    child.once('exit', (code) => reject(new Error(`it ended with ${code} before it was ready`)))
  })
}

async function answers(url) {
  for (let n = 0; n < 100; n++) {
    try {
      await fetch(url)
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  throw new Error(`nobody answers at ${url}`)
}

// start runs both. With nonces, both ask for them.
export async function start(binaries, { nonces }) {
  const data = join(binaries.folder, nonces ? 'with-nonces' : 'without-nonces')
  const authz = spawn(join(binaries.folder, 'authz'), ['dev', '--json', '--listen', '127.0.0.1:0', '--data', data], {
    env: { ...process.env, AUTHZ_DPOP_NONCE: nonces ? 'required' : 'off', AUTHZ_DATABASE_URL: '' },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const dev = JSON.parse(await firstLine(authz))
  const port = await freePort()
  const api = spawn(join(binaries.folder, 'carrier-api'), [
    '--issuer', dev.issuer, '--listen', `127.0.0.1:${port}`, '--base-url', `http://127.0.0.1:${port}`,
    ...(nonces ? ['--require-nonce'] : []),
  ], { stdio: ['ignore', 'inherit', 'inherit'] })
  await answers(`http://127.0.0.1:${port}/healthz`)
  return { dev, api: `http://127.0.0.1:${port}`, stop: () => Promise.all([authz, api].map(end)) }
}

// register makes a key and registers a client that authenticates by it, without a
// kid for one of the algorithms.
export async function register(binaries, { dev }, name, alg) {
  const keys = await oauth.generateKeyPair(alg, { extractable: true })
  const kid = alg === 'PS256' ? undefined : `${name} ${alg}`
  const jwk = { ...await crypto.subtle.exportKey('jwk', keys.publicKey), kid }
  const file = join(binaries.folder, `${name}-${alg}.jwks`)
  writeFileSync(file, JSON.stringify({ keys: [jwk] }))
  const client_id = `${name}-${alg}`
  execFileSync(join(binaries.folder, 'authz'), ['client', 'create', client_id, '--grant', 'https://labels.carrier.test=label:create,label:read',
    '--auth-method', 'private_key_jwt', '--jwks', file], { env: { ...process.env, AUTHZ_DATABASE_URL: dev.database_url }, stdio: ['ignore', 'ignore', 'inherit'] })
  return { client_id, key: kid ? { key: keys.privateKey, kid } : keys.privateKey }
}

function end(child) {
  return new Promise((resolve) => {
    if (child.exitCode !== null) return resolve()
    child.once('exit', resolve)
    child.kill('SIGTERM')
  })
}
