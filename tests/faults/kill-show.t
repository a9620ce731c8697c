#!/bin/bash
# kill -9 and full disks while df-show writes chosen rows and indices: nothing partial under a final name, no file
# without its description, and the same command again gives the bytes of an undisturbed run.
# shellcheck disable=SC2086,SC2154 # commands are words; they are kill.sh's
. "$(dirname "$0")/../cmd/lib.sh"
. "$SRC/tests/faults/kill.sh"

ok 'a choice' df-score random -q --train pool.h5 -n 5000 --short cycle -o index.h5
awk 'BEGIN { for (i = 0; i < 50000; i++) print (i * 7) % 320 }' >list.txt

torture 'df-show --export, a file' 'some.jsonl dataset_info.json' 0 \
	df-show -q --with-scores x_ --export some.jsonl index.h5
rm -f some.jsonl dataset_info.json
torture 'df-show --export, a directory' exported 0 df-show -q --export exported index.h5
torture 'df-show --import' imported.h5 0 df-show -q --import list.txt -o imported.h5 pool.h5

# A description that others wrote is never lost, nor cut.
mkdir shared
before='{"theirs": {"file_name": "theirs.json"}}'
bad=
for at in 1 2 3 4 5 6 7 8 9 10 11 12; do
	rm -rf shared/*
	echo "$before" >shared/dataset_info.json
	(LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_AT=$at exec df-show -q --merge-info --export shared/mine.jsonl index.h5) >out 2>err
	grep -q theirs.json shared/dataset_info.json && df-pack --dataset-dir shared --list-datasets >names ||
		bad="$bad call $at: $(head -c 100 shared/dataset_info.json);"
	[ ! -e shared/mine.jsonl ] || grep -q mine names || bad="$bad call $at: the data without its description;"
	df-show -q --merge-info --export shared/mine.jsonl index.h5 2>err || bad="$bad call $at: $(cat err);"
	[ "$(df-pack --dataset-dir shared --list-datasets | tr '\n' ' ')" = 'theirs mine ' ] || bad="$bad call $at: again;"
done 2>/dev/null
is_empty 'merged into a description that is there' "$bad"

# full WHAT OUTPUT COMMAND...: on disks with room for a part of it; then there is room.
shim=$BUILD/tests/diskfull.so
full()
{
	label=$1
	output=$2
	shift 2
	rm -rf whole* dataset_info.json
	ok "$label" "$@"
	list $output >want.list
	size=$(du -sb $output | cut -f1)
	rm -rf $output dataset_info.json
	for n in 200 $((size / 3)) $((size * 2 / 3)); do
		exits 74 "$label, a disk of $n bytes" env LD_PRELOAD="$shim" DF_DISK_BYTES=$n "$@"
		says '  says so' '[Nn]o space'
		is_empty '  leaves nothing' "$(find . -maxdepth 1 -name "*$output*" -o -maxdepth 1 -name '*dataset_info.json*')"
	done
	exits 74 "$label, a disk that does not keep it" env LD_PRELOAD="$shim" DF_DISK_SYNC=no "$@"
	[ ! -e $output ]
	report $? '  leaves no output'
	ok "$label: and now there is room" "$@"
	list $output >made.list
	same "$label: the bytes of an undisturbed run" made.list want.list
}
full 'a file' whole.json df-show -q --export whole.json index.h5
full 'a directory' whole df-show -q --export whole index.h5
full 'an index' whole.h5 df-show -q --import list.txt -o whole.h5 pool.h5

done_testing
