import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { assertingClients, clients } from './clients.mjs'
import { build, register, start } from './servers.mjs'

// Ed25519 is what these libraries call EdDSA (RFC 9864).
const algorithms = ['ES256', 'Ed25519', 'PS256', 'RS256']

// claims are those of a JWT, which is not verified: the API has.
const claims = (jwt) => JSON.parse(Buffer.from(jwt.split('.')[1], 'base64url'))

let binaries
before(() => { binaries = build() })
after(() => binaries?.remove())

for (const nonces of [false, true]) {
  describe(nonces ? 'with nonces' : 'without nonces', () => {
    let servers
    before(async () => { servers = await start(binaries, { nonces }) })
    after(() => servers?.stop())

    for (const [name, client] of Object.entries(clients)) {
      for (const alg of algorithms) {
        it(`${name} gets a token with ${alg} and makes a label with it`, async () => {
          const { token, response, jkt } = await client(servers, alg)
          assert.equal(token.token_type.toLowerCase(), 'dpop')
          assert.equal(claims(token.access_token).cnf.jkt, jkt)
          assert.equal(response.status, 201, await response.clone().text())
        })
      }
    }

    for (const [name, client] of Object.entries(assertingClients)) {
      for (const alg of ['ES256', 'Ed25519', 'PS256']) {
        it(`${name} authenticates by a key of its own with ${alg}`, async () => {
          const own = await register(binaries, servers, name, alg)
          const { token, response, jkt } = await client(servers, 'ES256', own)
          assert.equal(claims(token.access_token).client_id, own.client_id)
          assert.equal(claims(token.access_token).cnf.jkt, jkt)
          assert.equal(response.status, 201, await response.clone().text())
        })
      }
    }

    it('a token without its key is refused', async () => {
      const { token } = await clients.dpop(servers, 'ES256')
      for (const scheme of ['Bearer', 'DPoP']) {
        const response = await fetch(servers.api + '/labels', { method: 'POST', headers: { Authorization: `${scheme} ${token.access_token}` } })
        assert.equal(response.status, 401)
        assert.match(response.headers.get('WWW-Authenticate'), /DPoP/)
      }
    })
  })
}
