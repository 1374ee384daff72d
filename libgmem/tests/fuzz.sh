#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
#
# fuzz.sh PROGRAM CORPUS RUNS: so many inputs, from what is kept in CORPUS on. The same
# each time: what is found goes to a directory of its own, and to stay has to be copied
# to CORPUS. What ends the program is kept in the directory this runs in.

set -e
found=$(mktemp -d)
trap 'rm -rf "$found"' EXIT
"$1" -runs="$3" -seed=1 -max_len=2048 -rss_limit_mb=4096 -print_final_stats=1 "$found" "$2"
