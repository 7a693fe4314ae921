#!/bin/sh
# Registers what the platform begins with, as an operator would: the labels API,
# and the gateway in front of it, whose secret goes where only nginx reads it. It
# may run any number of times: what is there stays as it is.
set -eu
resource=https://labels.carrier.test
gateway=labels-gateway
secret=/gateway/secret.conf

authz resource show "$resource" >/dev/null 2>&1 ||
	authz resource create "$resource" --scope label:create,label:read --base-url http://localhost:8090

# The server makes the secret and shows it once. A gateway whose secret is lost,
# or whose database is, is registered anew.
if [ ! -s "$secret" ] || ! authz client show "$gateway" >/dev/null 2>&1; then
	authz client delete "$gateway" >/dev/null 2>&1 || true
	shown=$(authz client create "$gateway" --introspects "$resource" --json |
		sed -n 's/.*"client_secret":"\([^"]*\)".*/\1/p')
	[ -n "$shown" ]
	umask 077
	printf 'proxy_set_header X-Gateway-Authorization "Basic %s";\n' \
		"$(printf %s "$gateway:$shown" | base64 -w0)" >"$secret.new"
	mv "$secret.new" "$secret"
fi
echo "registered: $resource, and $gateway in front of it"
