# The image of every Holkas process. Two stages: the static binary, and a small
# Debian with the filesystem tools that the engine and the node plugin run.
ARG GO_IMAGE=golang:1.26-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
ARG TARGETOS=linux
ARG TARGETARCH
ARG VERSION=unknown
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY pkg pkg
RUN CGO_ENABLED=0 GOOS=${TARGETOS} GOARCH=${TARGETARCH} \
    go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /holkas ./cmd/holkas

FROM ${BASE_IMAGE}
ARG VERSION=unknown
LABEL org.opencontainers.image.title="Holkas" \
      org.opencontainers.image.description="CSI driver that keeps stateful data portable" \
      org.opencontainers.image.source="https://github.com/holkas-io/holkas" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
RUN apt-get update \
    && apt-get install -y --no-install-recommends btrfs-progs e2fsprogs mount util-linux xfsprogs \
    && rm -rf /var/lib/apt/lists/*
COPY --from=build /holkas /usr/local/bin/holkas
# The controller runs as this user. The engine and the node plugin make loop
# devices and mounts, and are run as root.
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/holkas"]
