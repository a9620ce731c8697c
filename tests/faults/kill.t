#!/bin/sh
# kill -9 at 30 instants in each program: nothing partial under a final name,
# and the same command again gives the bytes of an undisturbed run.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/../cmd/lib.sh"

n_kills=${DF_KILLS:-30}
[ -z "${DF_SANITIZED-}" ] || n_kills=4

mkdir data
"$BUILD/demo/generate" data 1
sets=translate,reverse,shout,add
pack="df-pack -q --dataset-dir data --dataset $sets --template default --tokenizer bytes --cutoff-len 64"
train="df-train $SRC/demo/train.yaml model_name_or_path=$SRC/demo/model -q -j 1 tokenized_path=pool.h5 max_steps=12 save_steps=3 eval_strategy=no logging_steps=1 per_device_train_batch_size=8"
ok 'a pool' $pack -o pool.h5
ok 'a target' df-pack -q --dataset-dir data --dataset val --template default --tokenizer bytes --cutoff-len 64 -o val.h5
ok 'a checkpoint' $train output_dir=run
ok 'gradients' df-grad -q -j 1 -m run/checkpoint-12 --form sgd val.h5 -o val.grad.h5
ok 'projections' df-grad -q -m run/checkpoint-12 --form adam --project 256 pool.h5 -o pool.proj.h5
ok 'the target projected' df-project -q -k 256 val.grad.h5 -o val.proj.h5

# Times are the only bytes of a run's directory that may differ.
digest_dir()
{
	(cd "$1" && find . -type f ! -name '*.lock' | LC_ALL=C sort | while read -r f; do
		case $f in
		*.json | *.jsonl) sed -E 's/"(elapsed_time|remaining_time|throughput|[a-z_]*(runtime|per_second))": *("[^"]*"|[0-9.e+-]+)/"\1"/g' "$f" | cksum ;;
		*) cksum <"$f" ;;
		esac | sed "s|\$| $f|"
	done)
}

# torture NAME OUTPUT COMMAND...: OUTPUT is what the command makes, in the current directory.
torture()
{
	name=$1
	output=$2
	shift 2
	rm -rf "$output" want ".$output".*
	t0=$(date +%s%N)
	"$@" >out 2>err || { report 1 "$name: undisturbed run"; tell; return; }
	t1=$(date +%s%N)
	mv "$output" want
	bad=
	killed=0
	i=0
	while [ "$i" -lt "$n_kills" ]; do
		# The instants are spread over the whole run, early ones and late ones, jittered by a fixed rule.
		pause=$(awk -v a="$t0" -v b="$t1" -v i="$i" -v n="$n_kills" 'BEGIN { srand(i + 1); printf "%.4f", (b - a) / 1e9 * (i + rand()) / n }')
		rm -rf "$output" ".$output".*
		"$@" >out 2>err &
		pid=$!
		sleep "$pause"
		kill -9 "$pid" 2>/dev/null && killed=$((killed + 1))
		wait "$pid" 2>/dev/null
		# What stands under the final name is whole.
		if [ -f "$output" ] && ! cmp -s "$output" want; then
			bad="$bad kill $i left a partial file;"
		fi
		"$@" >out 2>err || bad="$bad rerun after kill $i failed: $(head -n 1 err);"
		if [ -d want ]; then
			[ "$(digest_dir "$output")" = "$(digest_dir want)" ] || bad="$bad rerun after kill $i gives another directory;"
		else
			cmp -s "$output" want || bad="$bad rerun after kill $i gives other bytes;"
		fi
		left=$(find . -maxdepth 1 -name ".$output.*" | head -n 1)
		[ -z "$left" ] || bad="$bad $left was left behind;"
		i=$((i + 1))
	done
	echo "# $name: killed $killed of $n_kills runs, one run takes $(((t1 - t0) / 1000000)) ms"
	is "$name: $n_kills kills, whole or absent, and the rerun's bytes" "$bad" ""
	# An instant past the end of a run kills nothing: most must have hit.
	[ "$killed" -ge $((n_kills / 2)) ]
	report $? "$name: most kills found it running"
}

torture df-pack pack.h5 $pack -o pack.h5
torture df-train trained $train output_dir=trained
torture df-grad grad.h5 df-grad -q -j 1 -m run/checkpoint-12 --form adam --project 512 pool.h5 -o grad.h5
torture df-project proj.h5 df-project -q -j 1 -k 1024 val.grad.h5 -o proj.h5
torture df-score index.h5 df-score less -q --train pool.proj.h5 --val val.proj.h5 -n 100 -o index.h5

done_testing
