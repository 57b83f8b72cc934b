#!/usr/bin/env bash
# One recorded session from start to end: capture, validate, export.
#
#   scripts/run_crypto_session.sh --symbols BTCUSDT,ETHUSDT --duration 2h --tag session_A [capture-session options…]
#
# Flags win over the environment (SYMBOLS, DURATION, TAG); durations are 2h, 20m, 90s or plain seconds. Whatever else is
# given goes to `oneprice capture-session`, e.g. --emulated --speed 60, or --include-funding. The first step that fails
# ends the script with its exit code.
set -euo pipefail

SYMBOLS="${SYMBOLS:-BTCUSDT,ETHUSDT}"
DURATION="${DURATION:-7200}"
TAG="${TAG:-$(date +%Y%m%d_%H%M%S)}"
ONEPRICE="${ONEPRICE:-$(command -v oneprice || echo "$(dirname "$0")/../.venv/bin/oneprice")}"

usage() { sed -n '2,8s/^# \{0,1\}//p' "$0"; }

seconds() {
  local amount="${1%[hms]}"
  case "$1" in
    "" | *[!0-9hms]* | [hms]* | *[hms]?*) echo "run_crypto_session.sh: duration '$1': write 2h, 20m, 90s or 7200" >&2; return 2 ;;
    *h) echo $((10#$amount * 3600)) ;;
    *m) echo $((10#$amount * 60)) ;;
    *) echo $((10#$amount)) ;;
  esac
}

more=()
while (($#)); do
  case "$1" in
    --symbols | --duration | --tag)
      (($# > 1)) || { echo "run_crypto_session.sh: $1 needs a value" >&2; exit 2; }
      declare "$(tr '[:lower:]' '[:upper:]' <<<"${1#--}")=$2"
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) more+=("$1"); shift ;;
  esac
done

duration_secs="$(seconds "$DURATION")"
out_dir="data/sessions/${TAG}"

"$ONEPRICE" capture-session --symbols "$SYMBOLS" --out-dir "$out_dir" --duration-secs "$duration_secs" \
  --include-trades --strict ${more[@]+"${more[@]}"}
"$ONEPRICE" validate-session --session-dir "$out_dir"
"$ONEPRICE" export-vectorbt --session-dir "$out_dir" --out-dir "$out_dir/vectorbt"

echo "Session complete: $out_dir"
