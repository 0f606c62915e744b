#!/usr/bin/env bash
# The room task's container image.
#
#   scripts/image.sh            build it, try it, print its digest and size
#   scripts/image.sh twice      build the last commit in two places, once without the build cache: the digests must agree
#   scripts/image.sh run        run the image that was built, with the environment given to this script
#   scripts/image.sh login HOST log in to a registry, with the password on stdin
#   scripts/image.sh push REF   push it; prints REF@digest on stdout and nothing else
#
# ARCH=amd64 or arm64 (Fargate's cheaper one) chooses the architecture: by default this
# machine's for build and run. BINARY=path packs another static binary, to try the
# script itself. It needs buildah, or docker with a running engine; root is not needed.
set -euo pipefail
cd "$(dirname "$0")/.."

MAX_BYTES=15000000 # uncompressed: a Fargate task pulls the whole image at each start
arch=${ARCH:-$(go env GOARCH)}
name=localhost/mayfly-roomtask:$arch
version=$(git describe --always --dirty 2>/dev/null || echo dev)

say() { echo "$@" >&2; }
die() { say "$0: $*"; exit 1; }

# What is made on the way goes when the script does, however it ends.
container="" tree="" scratch=""
cleanup() {
  if [ -n "$container" ] && [ $engine = buildah ]; then buildah rm "$container" >/dev/null 2>&1 || true; fi
  if [ -n "$container" ] && [ $engine = docker ]; then docker rm "$container" >/dev/null 2>&1 || true; fi
  if [ -n "$scratch" ]; then rm -rf "$scratch"; fi
}
trap cleanup EXIT

# chroot isolation and vfs storage work without privileges, namespaces or a daemon.
buildah() { command buildah --storage-driver vfs "$@"; }

if command -v buildah >/dev/null; then
  engine=buildah
elif command -v docker >/dev/null && docker info >/dev/null 2>&1; then
  engine=docker
else
  die "needs buildah (apt-get install buildah) or docker with a running engine"
fi

binary() {
  mkdir -p bin
  local out=bin/roomtask-linux-$arch
  if [ -n "${BINARY:-}" ]; then
    cp "$BINARY" "$out"
  else
    CGO_ENABLED=0 GOOS=linux GOARCH=$arch go build -trimpath -ldflags "-s -w -X main.version=$version" -o "$out" ./roomtask
  fi
  # A binary that wants a loader would only fail in the empty image.
  if LC_ALL=C grep -aq '/lib\(64\)\?/ld-' "$out"; then die "$out is not static"; fi
  # What it was made of, for whoever has to know (CycloneDX).
  go run ./cmd/sbom "$out" >"$out.cdx.json"
}

build() {
  binary
  local labels=(--label "org.opencontainers.image.title=mayfly roomtask"
    --label "org.opencontainers.image.version=$version"
    --label "org.opencontainers.image.revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --label "org.opencontainers.image.licenses=Apache-2.0")
  # The context is the one file that the Dockerfile copies, not the whole tree.
  scratch=$(mktemp -d)
  local context=$scratch/context
  mkdir -p "$context/bin"
  cp "bin/roomtask-linux-$arch" "$context/bin/"
  if [ $engine = buildah ]; then
    buildah bud --quiet --isolation chroot --arch "$arch" --build-arg "TARGETARCH=$arch" --format oci --timestamp 0 \
      "${labels[@]}" --tag "$name" --file Dockerfile "$context" >/dev/null
  else
    docker build --quiet --platform "linux/$arch" --build-arg "TARGETARCH=$arch" \
      "${labels[@]}" --tag "$name" --file Dockerfile "$context" >/dev/null
  fi
}

# unpack puts the image's files under $tree.
unpack() {
  if [ $engine = buildah ]; then
    container=$(buildah from --pull-never --arch "$arch" "$name")
    tree=$(buildah mount "$container")
  else
    container=$(docker create "$name")
    tree=$scratch/tree
    mkdir "$tree"
    docker export "$container" | tar -x -C "$tree"
  fi
}

digest() {
  if [ $engine = buildah ]; then
    buildah inspect --type image --format '{{.FromImageDigest}}' "$name"
  else
    docker image inspect --format '{{.Id}}' "$name"
  fi
}

check() {
  local size files
  unpack
  size=$(find "$tree" -type f -printf '%s\n' | awk '{n += $1} END {print n + 0}')
  files=$(cd "$tree" && find . -type f -size +0 | sort | tr '\n' ' ')
  say "image    $name"
  say "digest   $(digest)"
  say "size     $size bytes uncompressed, of $MAX_BYTES at most"
  say "files    $files"
  [ "$files" = "./roomtask " ] || die "the image holds more than the binary"
  [ "$size" -le "$MAX_BYTES" ] || die "the image is too large"
}

# start runs the image's entry point as the image's user, with nothing of this
# machine's environment but MAYFLY_* and ECS_*/AWS_* variables.
start() {
  local pass=() variable
  while IFS= read -r variable; do
    pass+=(--env "$variable=${!variable}")
  done < <(compgen -e | grep -E '^(MAYFLY|ECS|AWS)_' || true)
  if [ $engine = buildah ]; then
    container=$(buildah from --pull-never --arch "$arch" "$name")
    buildah run --isolation chroot --user 65532:65532 --network host "${pass[@]}" "$container" /roomtask
    return
  fi
  docker run --rm --network host "${pass[@]}" "$name"
}

# starts shows that the binary runs in the empty image: without its configuration it
# must say what it misses and end.
starts() {
  if [ "$arch" != "$(go env GOARCH)" ]; then
    say "start    not tried: this machine is no $arch"
    return
  fi
  local out status=0
  out=$(env -i PATH="$PATH" HOME="$HOME" "$0" run 2>&1) || status=$?
  if [ -z "${BINARY:-}" ] && { [ $status = 0 ] || ! grep -q MAYFLY_ROOM <<<"$out"; }; then
    die "the image does not start (status $status): $out"
  fi
  say "start    status $status: $(head -c 200 <<<"$out" | head -1)"
}

# twice builds the same commit in two places, the second time without the build cache,
# and compares the images. What is not committed is not in it.
twice() {
  local first second
  scratch=$(mktemp -d)
  git clone --quiet . "$scratch/mayfly"
  git clone --quiet . "$scratch/another/place"
  first=$(cd "$scratch/mayfly" && ARCH=$arch scripts/image.sh digest)
  second=$(cd "$scratch/another/place" && GOCACHE=$scratch/cache ARCH=$arch scripts/image.sh digest)
  say "digests  $first"
  say "         $second"
  if [ -z "$first" ] || [ "$first" != "$second" ]; then die "two builds of one commit differ"; fi
}

case ${1:-build} in
digest)
  build
  digest
  ;;
build)
  build
  check
  starts
  ;;
twice) twice ;;
run) start ;;
login) $engine login --username AWS --password-stdin "${2:?usage: $0 login HOST}" >&2 ;;
push)
  ref=${2:?usage: $0 push REF}
  if [ $engine = buildah ]; then
    scratch=$(mktemp -d)
    file=$scratch/digest
    buildah push --quiet --digestfile "$file" --compression-format zstd --compression-level 19 "$name" "docker://$ref" >&2
    echo "${ref%:*}@$(cat "$file")"
  else
    docker tag "$name" "$ref"
    docker push --quiet "$ref" >&2
    docker image inspect --format '{{index .RepoDigests 0}}' "$ref"
  fi
  ;;
*) die "usage: $0 [build | twice | run | login HOST | push REF]" ;;
esac
