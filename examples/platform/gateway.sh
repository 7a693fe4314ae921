#!/bin/sh
# Runs nginx with the files of examples/gateway/nginx, in which nothing but the
# addresses is another, and with the secret that register.sh has written.
#
# A check is a GET for nginx, so that one which a server took and did not answer is
# shown to the other. If its proof was spent by then, the call is refused with a
# 401 and not let through twice.
set -eu
cp /example/*.conf /gateway/secret.conf /tmp
cd /tmp
sed -i \
	-e 's/listen 127\.0\.0\.1:8000;/listen 8090;/' \
	-e 's/server 127\.0\.0\.1:9090;/server authz-1:9090; server authz-2:9090;/' \
	-e 's/server 127\.0\.0\.1:8090;/server carrier-api:8090;/' labels.conf
sed -i 's/127\.0\.0\.1:8000/localhost:8090/' forwarded.conf
if grep -n '127\.0\.0\.1' ./*.conf; then
	echo "gateway.sh: the example has changed, and an address in it stays" >&2
	exit 1
fi
exec nginx -p /tmp/ -c /tmp/nginx.conf -g 'daemon off;'
