-- Shows a request to authz's /gateway/verify, and lets it through only if that
-- answers 200.

local verify = "http://127.0.0.1:9090/gateway/verify" -- AUTHZ_INTERNAL_LISTEN
local proto, host = "http", "127.0.0.1:8000"          -- of the resource's --base-url
local credentials = os.getenv("LABELS_GATEWAY_BASIC") or error("LABELS_GATEWAY_BASIC is not set")

-- list makes a list of values that HAProxy counts from 0; nil is none.
local function list(values)
    local l = {}
    for i = 0, values and #values or -1 do l[#l + 1] = values[i] end
    return l
end

-- refuse ends the request. Only a 401 and a 403 are told to the caller.
local function refuse(txn, answer)
    local told = answer and (answer.status == 401 or answer.status == 403)
    local reply = txn:reply { status = told and answer.status or 503 }
    for _, name in ipairs(told and { "www-authenticate", "dpop-nonce", "cache-control", "content-type" } or {}) do
        for _, value in ipairs(list(answer.headers[name])) do reply:add_header(name, value) end
    end
    if told then reply:set_body(answer.body) end
    txn:done(reply)
end

-- certificate is the caller's, as RFC 9440 writes it: never what the caller says.
local function certificate(txn)
    local der = txn:get_var("txn.client_cert")
    return der and { ":" .. der .. ":" } or {}
end

core.register_action("verify", { "http-req" }, function(txn)
    local asked = txn.http:req_get_headers()
    local answer = core.httpclient():get {
        url = verify .. "?resource=https://labels.carrier.test&assertion=true&client_cert=true&scope=" .. txn:get_var("txn.scope"),
        headers = {
            ["x-gateway-authorization"] = { "Basic " .. credentials },
            ["x-forwarded-method"] = { txn.sf:method() },
            ["x-forwarded-proto"] = { proto },
            ["x-forwarded-host"] = { host },
            ["x-forwarded-uri"] = { txn.sf:pathq() },
            -- As they came, also two of them; and nothing else that the client sent.
            ["authorization"] = list(asked["authorization"]),
            ["dpop"] = list(asked["dpop"]),
            ["client-cert"] = certificate(txn),
        },
        timeout = 1000, -- milliseconds; HAProxy tries four times
    }
    if not answer or answer.status ~= 200 then return refuse(txn, answer) end
    for _, name in ipairs { "x-auth-client-id", "x-auth-scope", "x-auth-jkt", "x-auth-token-id", "x-auth-assertion" } do
        local value = answer.headers[name]
        if value then txn.http:req_set_header(name, value[0]) end
    end
    local nonce = answer.headers["dpop-nonce"]
    if nonce then txn:set_var("txn.dpop_nonce", nonce[0]) end
    txn:set_var("txn.admitted", true) -- last: whatever fails before this refuses
end)
