# Shared by the scripts that start a DynamoDB engine for the contract tests; sourced.
#
# engine_main VARIABLE DEFAULT_PORT [command…]   (the caller defines engine_exec PORT)
#   without a command: the engine in the foreground, on $PORT or the default port;
#   with one: the engine on a free port for as long as the command runs, its endpoint
#   in VARIABLE. So the scripts nest: scripts/moto.sh scripts/dynamodb-local.sh go test …

# free_port prints a local port that nobody listens on.
free_port() {
  local port
  for _ in {1..50}; do
    port=$((20000 + RANDOM % 12000))
    if ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      echo "$port"
      return
    fi
  done
  echo "no free port found" >&2
  return 1
}

engine_main() {
  local variable=$1 default_port=$2 port pid log status
  shift 2
  if [ $# -eq 0 ]; then
    port=${PORT:-$default_port}
    echo "export $variable=http://127.0.0.1:$port" >&2
    engine_exec "$port"
  fi
  port=$(free_port)
  log=$(mktemp)
  (engine_exec "$port") >"$log" 2>&1 &
  pid=$!
  # shellcheck disable=SC2064 # the values of now are meant
  trap "kill $pid 2>/dev/null; wait $pid 2>/dev/null; rm -f '$log'" EXIT
  for _ in {1..300}; do # 30 s; either engine is up in about 3 s
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
      status=0
      env "$variable=http://127.0.0.1:$port" "$@" || status=$?
      exit "$status"
    fi
    if ! kill -0 "$pid" 2>/dev/null; then
      break
    fi
    sleep 0.1
  done
  echo "$0: the engine did not start:" >&2
  cat "$log" >&2
  exit 1
}
