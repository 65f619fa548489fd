#!/usr/bin/env bash
# The first thing to run on a machine with CUDA; needs nothing from outside but the package and pytest.
#
#   benchmarks/gpu.sh [--device cuda|cpu] [--minutes N] [--output DIR] [--checkpoint DIR]
#
# Runs the tests that want the device, times registrations and training steps of growing size, and goes on training
# from the newest checkpoint of DIR (or from the shipped weights) with what time is left. The output folder has
# tests.txt, table.md, table.json, and the checkpoint in pieces of 16 MiB: cat checkpoint.npz.* > checkpoint.npz
set -euo pipefail

device=cuda minutes=11 output=gpu-results checkpoint=
while [ $# -gt 0 ]; do
  case "$1" in
    --device) device=$2 ;;
    --minutes) minutes=$2 ;;
    --output) output=$2 ;;
    --checkpoint) checkpoint=$2 ;;
    *) echo "gpu.sh: unknown option $1" >&2; exit 2 ;;
  esac
  shift 2
done
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3
export PYTHONPATH=NePhiRegistration/NePhiRegistrationLib${PYTHONPATH:+:$PYTHONPATH}
mkdir -p "$output"
end=$(($(date +%s) + minutes * 60))
left() { echo $((end - $(date +%s) - 10)); }

data=$(for folder in ../shared/data shared/data; do [ -d "$folder" ] && echo "$folder" && break; done || true)
many=$("$python" -c 'import xdist' 2> /dev/null && echo "-n 4" || true)
timeout "$(left)" "$python" -m pytest $many -q -p no:cacheprovider Testing/test_second_device.py \
  "Testing/test_pipeline.py" -k "device" > "$output/tests.txt" 2>&1 || true
tail -1 "$output/tests.txt"

# Two thirds of what is left for the table, the rest for training.
"$python" benchmarks/gpu_table.py --device "$device" --seconds $(($(left) * 2 / 3)) --output "$output" \
  ${data:+--data "$data"}

training=$output/training
mkdir -p "$training"
# Label maps of brains where they are; made-up chests alone elsewhere, which is another training than a checkpoint's.
[ -d "$data/brain_labels" ] || data=
start=(--start universal)
if [ -n "$checkpoint" ] && [ -n "$data" ]; then
  cp "$checkpoint/checkpoint.npz" "$training/"
  start=(--resume)
fi
awk -v device="$device" -v cores="$(getconf _NPROCESSORS_ONLN)" -v labels="${data:+1}" '
  /^\[/ { skip = 0 }
  /^\[\[data\]\]/ { head = $0; next }
  head != "" { skip = ($0 ~ /"labels"/ && labels == ""); if (!skip) print head; head = "" }
  skip { next }
  /^checkpoint_every/ { print "checkpoint_every = 10"; print "device = \"" device "\""; print "workers = " cores; next }
  /^batch/ && device == "cuda" { print "batch = 8"; next }
  { print }' NePhiRegistration/Resources/Training/universal.toml > "$training/universal.toml"
if [ "$(left)" -gt 20 ]; then
  timeout -s TERM "$(left)" "$python" -m nephi train "$training/universal.toml" -o "$training" \
    ${data:+--data "$data"} "${start[@]}" -q || true
fi
if [ -f "$training/checkpoint.npz" ]; then
  split -b 16m -d "$training/checkpoint.npz" "$output/checkpoint.npz."
fi
ls -l "$output"
