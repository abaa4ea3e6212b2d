# syntax=docker/dockerfile:1
# Build:  docker build -t retort .
# Token:  docker run --rm -v retort:/data retort token --file /data/tokens --name me --scope admin
# Run:    docker run -d -p 8080:8080 -v retort:/data retort
#
# Without tokens retort listens on loopback only, so the first command makes one, and prints it this once.
# To do without on the host's own loopback: docker run --network host -v retort:/data \
#     retort serve --listen 127.0.0.1:8080 --tokens ''
# Which packages go in is decided in tools/packages, for this file as for `make`.

FROM debian:12-slim AS build
WORKDIR /src
COPY tools/packages tools/packages
RUN tools/packages install build
COPY . .
ARG COMMIT=unknown
RUN make -j"$(nproc)" COMMIT="$COMMIT" && make install COMMIT="$COMMIT" DESTDIR=/out PREFIX=/usr

FROM debian:12-slim
COPY tools/packages /tmp/packages
RUN /tmp/packages install runtime \
 && rm -rf /tmp/packages /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --user-group --home-dir /data --create-home --shell /usr/sbin/nologin retort
COPY --from=build /out/ /
USER retort
VOLUME /data
EXPOSE 8080
# bash opens the connection itself, so that no client has to be in the image.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == *' 200 '* ]]"]
ENV RETORT_DATA=/data RETORT_LISTEN=0.0.0.0:8080 RETORT_TOKENS=/data/tokens
ENTRYPOINT ["retort"]
CMD ["serve"]
