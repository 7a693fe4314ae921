# Two images: authz, a static binary with nothing else but CA certificates, is
# what is deployed; platform is what docker-compose.yml tries it with.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
ENV CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
# The large dependencies are compiled apart from the code, which changes more often.
RUN go mod download && go build std github.com/ory/fosite/handler/oauth2 github.com/jackc/pgx/v5/pgxpool \
    github.com/prometheus/client_golang/prometheus/promhttp github.com/spf13/cobra
COPY . .
ARG VERSION=
RUN go build -ldflags "-s -w -X main.buildVersion=${VERSION}" -o /out/authz ./cmd/authz


FROM build AS build-platform
RUN go build -ldflags "-s -w" -o /out/ ./examples/carrier-api ./examples/platform/demo && \
    go test -c -ldflags "-s -w" -tags integration -o /out/integration ./internal/compose


FROM debian:bookworm-slim AS platform
COPY --from=build-platform /out/ /usr/local/bin/
COPY examples/platform/register.sh /usr/local/bin/
# A volume that is new and empty takes its owner from here.
RUN install -d -o 65532 -g 65532 -m 0700 /gateway
USER 65532:65532


FROM debian:bookworm-slim AS certificates
RUN test -s /etc/ssl/certs/ca-certificates.crt || \
    (apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates)

# The last one is what `docker build .` makes.
FROM scratch AS authz
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/authz /authz
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=5 CMD ["/authz", "healthcheck"]
ENTRYPOINT ["/authz"]
CMD ["serve"]
