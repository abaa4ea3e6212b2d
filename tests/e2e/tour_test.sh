#!/usr/bin/env bash
# tour_test.sh - the five lines of the README, to the letter: read out of it, and run by a shell with Debian's curl. Only
# the port is another. Takes the first 3,000 images; `tour_test.sh full` takes all 60,000.
set -uo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
retort=$(realpath "${RETORT:-$root/build/retort}")
source=/usr/share/datasets/fashion-mnist
folder=$(mktemp -d)
trap 'kill "$server" 2>/dev/null; wait; rm -rf "$folder"' EXIT
server=

cd "$folder" || exit 1
cp "$root/examples/fashion/teacher.onnx" .
if [ "${1:-}" = full ]; then
    cp $source/train-images-idx3-ubyte.gz $source/train-labels-idx1-ubyte.gz .
else
    for name in train-images-idx3 train-labels-idx1; do
        node -e 'const { idxCut } = require(process.argv[1]); process.stdout.write(idxCut(process.argv[2], 3000));' \
            "$root/tests/js/arrays.js" "$source/$name-ubyte.gz" >"$name-ubyte.gz"
    done
fi

"$retort" serve --data data --listen 127.0.0.1:0 >out 2>log &
server=$!
for _ in $(seq 100); do
    url=$(sed -n 's,^listening on http://,,p' out)
    [ -z "$url" ] || break
    sleep 0.05
done

# The indented or fenced lines that begin with curl, up to the first blank line after them.
awk '/^ *curl / { print; seen = 1; next } seen { exit }' "$root/README.md" >tour
sed "s,localhost:8080,$url,g" tour >lines

n=0 failed=0
check() { # description, then a test that says why when it fails
    n=$((n + 1))
    if eval "$2" >said 2>&1; then echo "ok $n - $1"; else
        failed=1
        echo "not ok $n - $1"
        sed 's/^/# /' said
        tail -n 3 log | sed 's/^/# /'
    fi
}

begin=$(date +%s%N)
check "the tour has five lines" '[ "$(wc -l <lines)" = 5 ]'
for i in 1 2 3 4 5; do
    line=$(sed -n "${i}p" lines)
    check "line $i: $(sed -n "${i}p" tour | cut -c1-70)" 'bash -c "$line" >answer.$i; rc=$?; cat answer.$i; [ $rc = 0 ] && ! grep -q "\"status\": *[45]" answer.$i'
done
echo "# $((($(date +%s%N) - begin) / 1000000)) ms"
check "curl named the file student-v1.onnx" '[ -s student-v1.onnx ]'
check "it is a network of the same inputs" '"$retort" run student-v1.onnx "$root/tests/e2e/one.npy"'
echo "1..$n"
exit $failed
