#!/usr/bin/env bash
# Puts the whole of mayfly into an AWS account and Region: `make deploy`.
#
#   1. the registry's stack, once: the image must be somewhere before it can be named
#   2. the room task's image, built and pushed
#   3. the stack, with the image's digest
#
# STAGE=name takes the settings [name.*] of samconfig.toml (default "default");
# API_KEYS sets the ApiKeys parameter, which the first deploy needs: see `mayfly key
# new`. Other parameters are parameter_overrides in samconfig.toml; what is named
# nowhere stays as it was. YES=1 asks nothing. AWS credentials and Region are those of
# the environment, as for every AWS tool.
set -euo pipefail
cd "$(dirname "$0")/.."

stage=${STAGE:-default}
if [ -x .tools/venv/bin/sam ]; then
  PATH=$PWD/.tools/venv/bin:$PATH
fi
command -v sam >/dev/null || { echo "sam not found: scripts/setup.sh python" >&2; exit 1; }
python=$(dirname "$(command -v sam)")/python # it has boto3, so that the AWS CLI is not needed
[ -x "$python" ] || python=python3
# -s leaves the symbols out: half the size, and a shorter cold start.
export SAM_CLI_TELEMETRY=0 CGO_ENABLED=0 GOFLAGS=-ldflags=-s

# setting SECTION KEY prints a value of samconfig.toml, a list as words.
setting() {
  "$python" - "$stage" "$1" "$2" <<'PY'
import sys, tomllib
stage, section, key = sys.argv[1:]
config = tomllib.load(open("samconfig.toml", "rb"))
if stage not in config:
    sys.exit(f"samconfig.toml has no [{stage}.*]")
value = config[stage].get(section, {}).get("parameters", {}).get(key, "")
print(value if isinstance(value, str) else "\n".join(value))
PY
}

confirm=()
[ -z "${YES:-}" ] || confirm=(--no-confirm-changeset)

stack=$(setting global stack_name)
region=$(setting deploy region)
if [ -n "$region" ]; then
  export AWS_REGION=$region AWS_DEFAULT_REGION=$region
fi
registry=$stack-registry
echo "== registry: $registry"
sam deploy --template-file infra/registry.yaml --stack-name "$registry" \
  --no-confirm-changeset --no-fail-on-empty-changeset

repository=$("$python" - "$registry" <<'PY'
import sys, boto3
[stack] = boto3.client("cloudformation").describe_stacks(StackName=sys.argv[1])["Stacks"]
print(next(o["OutputValue"] for o in stack["Outputs"] if o["OutputKey"] == "RepositoryUri"))
PY
)

architecture=$(setting deploy parameter_overrides | grep -o 'TaskArchitecture=[A-Z0-9_]*' | cut -d= -f2 || true)
case ${architecture:-ARM64} in
ARM64) arch=arm64 ;;
X86_64) arch=amd64 ;;
*) echo "TaskArchitecture is $architecture, want ARM64 or X86_64" >&2; exit 1 ;;
esac

echo "== image for $arch"
ARCH=$arch scripts/image.sh

echo "== push to $repository"
"$python" - <<'PY' | scripts/image.sh login "${repository%%/*}"
import base64, boto3
token = boto3.client("ecr").get_authorization_token()["authorizationData"][0]["authorizationToken"]
print(base64.b64decode(token).decode().split(":", 1)[1])
PY
# The registry refuses a tag that it has, so each push has one of its own.
tag=$(date -u +%Y%m%d-%H%M%S)-$(git rev-parse --short HEAD)
image=$(ARCH=$arch scripts/image.sh push "$repository:$tag")

echo "== stack: $stack with $image"
sam build --config-env "$stage"
overrides=()
while IFS= read -r line; do
  [ -z "$line" ] || overrides+=("$line")
done < <(setting deploy parameter_overrides)
overrides+=("ImageUri=$image")
[ -z "${API_KEYS:-}" ] || overrides+=("ApiKeys=$API_KEYS")
sam deploy --config-env "$stage" "${confirm[@]}" --parameter-overrides "${overrides[*]}"
