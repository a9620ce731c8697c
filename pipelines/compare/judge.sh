#!/bin/sh
# judge.sh - the reward of an answer, for NICE: the fraction of the right answer that it begins with.
#
# Reads df-sample's JSON lines, writes {"id": N, "sample": N, "reward": X} lines.
exec awk '
function member(key, end,    text) {
	text = substr($0, index($0, "\"" key "\": ") + length(key) + 4)
	return substr(text, 1, index(text, end) - 1)
}
{
	got = member("completion", "\", \"answer\"")
	want = member("answer", "\", \"tokens\"")
	for (n = 0; n < length(want) - 1 && substr(got, n + 2, 1) == substr(want, n + 2, 1);)
		n++
	printf "{\"id\": %d, \"sample\": %d, \"reward\": %g}\n", member("id", ","), member("sample", ","), n / (length(want) - 1)
}'
