FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=1.0.0
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=$VERSION" -o /login-server ./cmd/login-server
RUN mkdir /data

# A shell is there for providers of the strategy "script".
FROM alpine:3.22
COPY --from=build /login-server /usr/local/bin/login-server
# Something to sign in with at the first start; mount a directory of your own over it.
COPY providers.json applications.json /etc/login-server/
COPY examples /etc/login-server/examples
COPY --from=build --chown=10001:10001 /data /data
ENV DATA_DIR=/data \
    JWT_PRIVATE_KEY_PATH=/data/private.key \
    JWT_PUBLIC_KEY_PATH=/data/public.key
VOLUME /data
USER 10001:10001
EXPOSE 3004
ENTRYPOINT ["login-server", "--dir", "/etc/login-server"]
CMD ["serve"]
