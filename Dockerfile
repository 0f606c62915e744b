# The room task's image: one static binary and nothing else, not even CA certificates
# (the binary carries its own). scripts/image.sh builds the binary first and passes its
# architecture, so that no base image is pulled.
FROM scratch
ARG TARGETARCH
COPY bin/roomtask-linux-${TARGETARCH} /roomtask
USER 65532:65532
EXPOSE 3478/udp 443/tcp
ENTRYPOINT ["/roomtask"]
