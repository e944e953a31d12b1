# The appliance as a container: one static binary on an empty image.
#
#     docker build -t carillon .
#
# GO_IMAGE and RUN_IMAGE can be exchanged where there is no registry; GO_FLAGS
# and the like come in through GO_IMAGE's own environment.
ARG GO_IMAGE=golang:1.26
ARG RUN_IMAGE=scratch

FROM ${GO_IMAGE} AS build
# So that what a build leaves behind can be found: docker image prune --filter
# label=carillon.stage=build
LABEL carillon.stage=build
ARG VERSION=unknown
WORKDIR /src
# Modules first: they change less often than the source, so this layer lasts.
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" \
        -o /out/appliance ./cmd/appliance \
    && mkdir -p /out/data /out/tmp && chmod 1777 /out/tmp

FROM ${RUN_IMAGE}
LABEL org.opencontainers.image.title="Carillon" \
      org.opencontainers.image.description="Media appliance for FreeSWITCH" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/appliance /appliance
COPY --from=build --chown=10001:10001 /out/tmp /tmp
# A volume takes its owner from the image, so that the user below may write.
COPY --from=build --chown=10001:10001 /out/data /var/lib/carillon
USER 10001:10001
VOLUME /var/lib/carillon
# A container must listen on all its interfaces to be reached at all. The node
# refuses to start like that without CARILLON_CLUSTER_SECRET and
# CARILLON_API_TOKENS (or the _FILE forms), so this default exposes nothing.
ENV CARILLON_HTTP_BIND=:8080 \
    CARILLON_SHOUT_BIND=:8000 \
    CARILLON_CLUSTER_BIND=:7946 \
    CARILLON_CLUSTER_PEER_BIND=:7947
# 8001 is for sources that speak SHOUTcast, once there are shout.sources.
EXPOSE 8080 8000 8001 7946/tcp 7946/udp 7947
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/appliance", "healthcheck"]
ENTRYPOINT ["/appliance"]
CMD ["serve"]
