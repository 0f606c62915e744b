#!/usr/bin/env bash
# The stack as AWS's own tools see it: cfn-lint, sam validate, sam build. What they miss
# is in infra/infra_test.go.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -x .tools/venv/bin/sam ]; then
  PATH=$PWD/.tools/venv/bin:$PATH
fi
# No account is asked; the tools only want a Region to know what exists in it.
export SAM_CLI_TELEMETRY=0 CGO_ENABLED=0 GOFLAGS=-ldflags=-s AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-eu-central-1}

cfn-lint template.yaml infra/*.yaml
sam validate --lint
sam build
for function in functions/*/main.go; do
  name=$(basename "$(dirname "$function")")
  bootstrap=$(find .aws-sam/build -path "*/${name^}Function/bootstrap")
  [ -n "$bootstrap" ] || { echo "sam build made no bootstrap for $name" >&2; exit 1; }
  if command -v file >/dev/null; then file -b "$bootstrap" | cut -d, -f1-4; fi
done
