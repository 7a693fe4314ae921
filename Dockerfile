# A static binary in an image that holds nothing else but CA certificates.
FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.buildVersion=${VERSION}" -o /out/authz ./cmd/authz


FROM debian:bookworm-slim AS certificates
RUN test -s /etc/ssl/certs/ca-certificates.crt || \
    (apt-get update -qq && apt-get install -qq -y --no-install-recommends ca-certificates)

FROM scratch
COPY --from=certificates /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/authz /authz
USER 65532:65532
EXPOSE 8080 9090
HEALTHCHECK --interval=5s --timeout=5s --start-period=10s --retries=5 CMD ["/authz", "healthcheck"]
ENTRYPOINT ["/authz"]
CMD ["serve"]
