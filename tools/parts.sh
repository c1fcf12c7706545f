# For bash scripts that run many checks and count: source it in the root of the project, then `set_up`, `need` for what
# is built, `part NAME COMMAND…` for each check, and `finish` at the end.
# shellcheck shell=bash

start=$SECONDS
passed=0 failed=0 skipped=0
parts=()
log=$(mktemp)
trap 'rm -f "$log"' EXIT
say() { printf '\n== %s (%d s)\n' "$1" $((SECONDS - start)); }

# part NAME COMMAND…: runs a check and counts the figures of its last line `N passed, N failed, N skipped`. A check
# without such a line, or one that ends with an error and names no failure, has failed.
part() {
  local name=$1 began=$SECONDS line status p=0 f=0 s=0
  shift
  say "$name"
  "$@" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
  if [[ -n $line ]]; then
    read -r p _ f _ s _ <<<"${line//,/}"
  else
    echo "no result; exit status $status"
    f=1
  fi
  if ((status != 0 && f == 0)); then
    echo "exit status $status"
    f=1
  fi
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  parts+=("$(printf '%6d s %7d passed %5d failed  %s' $((SECONDS - began)) "$p" "$f" "$name")")
}

# need NAME COMMAND…: something without which nothing can be tested. Shows what a failing compiler complains of.
need() {
  local name=$1 began=$SECONDS
  shift
  say "$name"
  if ! "$@" >"$log" 2>&1; then
    grep -E 'error|warning' "$log" || tail -n 30 "$log"
    failed=$((failed + 1))
    finish
  fi
  parts+=("$(printf '%6d s %29s %s' $((SECONDS - began)) "" "$name")")
}

# Packages, toolchain and the test environment, whose interpreter is `python` afterwards; the cases of the ONNX backend
# suite in `suite`.
set_up() {
  say "set-up"
  if ! tools/setup || ! python=$(tools/python-env test); then
    failed=1
    finish
  fi
  suite=$PWD/.cache/onnx-backend-tests
  if [[ ! -e $suite/.complete ]]; then
    rm -rf "$suite"
    need "cases of the ONNX backend suite" "$python" tools/onnx_backend_tests.py --output "$suite"
    touch "$suite/.complete"
  fi
}

# Prints the time of every part and the sums, and ends the script: with status 0 if nothing failed.
finish() {
  printf '\n'
  ((${#parts[@]})) && printf '%s\n' "${parts[@]}"
  printf '\n%d s\n%d passed, %d failed, %d skipped\n' $((SECONDS - start)) "$passed" "$failed" "$skipped"
  ((failed == 0))
  exit
}
