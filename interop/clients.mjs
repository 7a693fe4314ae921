// One function for each client library: it gets a token with a key of the
// algorithm, makes a label with it, and returns what it saw.
import * as dpop from 'dpop'
import * as oauth from 'oauth4webapi'
import * as openid from 'openid-client'

const body = JSON.stringify({ carrier: 'acme', recipient: 'Rue de la Loi 16, Brussels' })
const scope = 'label:create label:read'

// clients authenticate by the demo client's secret.
export const clients = { 'openid-client': openidClient, oauth4webapi: oauth4webapi, dpop: bareDpop }

// assertingClients authenticate by a key of their own: private_key_jwt.
export const assertingClients = { 'openid-client': openidClient, oauth4webapi: oauth4webapi }

async function openidClient({ dev, api }, alg, own) {
  const auth = own ? openid.PrivateKeyJwt(own.key) : openid.ClientSecretBasic(dev.client_secret)
  const config = await openid.discovery(new URL(dev.issuer), own?.client_id ?? dev.client_id, undefined, auth, { algorithm: 'oauth2', execute: [openid.allowInsecureRequests] })
  const keys = await openid.randomDPoPKeyPair(alg)
  const DPoP = openid.getDPoPHandle(config, keys)
  const token = await openid.clientCredentialsGrant(config, { scope }, { DPoP })
  const response = await openid.fetchProtectedResource(config, token.access_token, new URL(api + '/labels'), 'POST',
    body, new Headers({ 'Content-Type': 'application/json' }), { DPoP })
  return { token, response, jkt: await dpop.calculateThumbprint(keys.publicKey) }
}

async function oauth4webapi({ dev, api }, alg, own) {
  const insecure = { [oauth.allowInsecureRequests]: true }
  const issuer = new URL(dev.issuer)
  const as = await oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure }))
  const client = { client_id: own?.client_id ?? dev.client_id }
  const auth = own ? oauth.PrivateKeyJwt(own.key) : oauth.ClientSecretBasic(dev.client_secret)
  const keys = await oauth.generateKeyPair(alg)
  const DPoP = oauth.DPoP(client, keys)
  const ask = async () => oauth.processClientCredentialsResponse(as, client, await oauth.clientCredentialsGrantRequest(
    as, client, auth, new URLSearchParams({ scope }), { DPoP, ...insecure }))
  const token = await withNonce(ask)
  const response = await withNonce(() => oauth.protectedResourceRequest(token.access_token, 'POST', new URL(api + '/labels'),
    new Headers({ 'Content-Type': 'application/json' }), body, { DPoP, ...insecure }))
  return { token, response, jkt: await dpop.calculateThumbprint(keys.publicKey) }
}

// withNonce repeats once where the server asks for its nonce, which the
// library has then taken over.
async function withNonce(send) {
  try {
    return await send()
  } catch (error) {
    if (!oauth.isDPoPNonceError(error)) throw error
    return send()
  }
}

async function bareDpop({ dev, api }, alg) {
  const keys = await dpop.generateKeyPair(alg)
  const send = async (url, accessToken, init) => {
    let nonce
    for (let n = 0; n < 2; n++) {
      const proof = await dpop.generateProof(keys, url, 'POST', nonce, accessToken)
      const response = await fetch(url, { method: 'POST', ...init, headers: { ...init.headers, DPoP: proof } })
      if (response.ok || !response.headers.has('DPoP-Nonce')) return response
      nonce = response.headers.get('DPoP-Nonce')
    }
    throw new Error(`${url} asks for a nonce again and again`)
  }
  const basic = Buffer.from(`${dev.client_id}:${dev.client_secret}`).toString('base64')
  const answer = await send(dev.token_endpoint, undefined, {
    headers: { Authorization: `Basic ${basic}` },
    body: new URLSearchParams({ grant_type: 'client_credentials', scope }),
  })
  const token = await answer.json()
  const response = await send(api + '/labels', token.access_token, {
    headers: { Authorization: `DPoP ${token.access_token}`, 'Content-Type': 'application/json' }, body,
  })
  return { token, response, jkt: await dpop.calculateThumbprint(keys.publicKey) }
}
