# Shared by the scripts that start a DynamoDB engine for the contract tests; sourced.
#
# engine_main VARIABLE DEFAULT_PORT install|run [command…]
#   The caller defines engine_install and engine_exec PORT.
#   install: fetch what the engine needs. run, without a command: the engine in the
#   foreground, on $PORT or the default port; with one: the engine on a free port for
#   as long as the command runs, its endpoint in VARIABLE. So the scripts nest:
#   scripts/moto.sh run scripts/dynamodb-local.sh run go test …

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
  local variable=$1 default_port=$2 verb=${3-} port pid log status
  case $verb in
  install) engine_install; exit ;;
  run) engine_install ;;
  *) echo "usage: $0 install | run [command…]" >&2; exit 2 ;;
  esac
  shift 3
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
  trap "kill $pid 2>/dev/null || true; wait $pid 2>/dev/null || true; rm -f '$log'" EXIT
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
