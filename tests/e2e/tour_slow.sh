#!/usr/bin/env bash
# tour_slow.sh - the tour of tour_test.sh with all 60,000 images.
exec "$(dirname "$0")/tour_test.sh" full
