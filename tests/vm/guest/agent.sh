#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Serves the second serial port: one request at a time, answered in order. For busybox and dash.
#
# usage: agent.sh STAGE [TTY]
#
#   >  LAB-RUN ID LENGTH COMMAND      COMMAND in the escapes of printf %b, without white space;
#      LENGTH raw bytes               its standard input, after the newline
#   <  LAB-READY STAGE                when the agent starts
#   <  LAB-BEGIN ID / stdout / stderr / LAB-END ID CODE    (base64, one line each)
#
# Lines of anything else are dropped without an answer. A process costs 20 ms and more under
# emulation, so a request starts as few as it can: one, and one for each stream that is not empty.

stage=$1
tty=${2:-/dev/ttyS1}
dir=/run/lab
mkdir -p "$dir"
exec <"$tty" >"$tty" || exit 1
stty raw -echo || exit 1

printf '\nLAB-READY %s\n' "$stage"
while IFS= read -r line; do
	case $line in
	*'LAB-RUN '*' '*' '*) line=${line#*LAB-RUN } ;;
	*) continue ;;
	esac
	id=${line%% *}
	line=${line#* }
	length=${line%% *}
	input=/dev/null
	if [ "$length" -gt 0 ]; then
		input=$dir/stdin
		# The shell's read costs a system call per byte, and drops NULs.
		dd bs="$length" count=1 iflag=fullblock of="$input" 2>/dev/null
	fi
	command=$(printf '%b.' "${line#* }")
	(
		# The agent itself is protected from the OOM killer; what it runs is not.
		echo 0 >/proc/self/oom_score_adj
		cd /
		eval "${command%.}"
	) <"$input" >"$dir/stdout" 2>"$dir/stderr"
	code=$?
	printf '\nLAB-BEGIN %s\n' "$id"
	[ ! -s "$dir/stdout" ] || base64 -w 0 <"$dir/stdout"
	echo
	[ ! -s "$dir/stderr" ] || base64 -w 0 <"$dir/stderr"
	printf '\nLAB-END %s %s\n' "$id" "$code"
done
