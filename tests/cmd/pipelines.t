#!/bin/bash
# pipelines/: the loop as a script and as a makefile in parts gives the same
# files, also when make was killed halfway; for every method.
. "$(dirname "$0")/lib.sh"
command -v make >/dev/null 2>&1 || skip_all 'no make here'
unset MAKEFLAGS MFLAGS MAKELEVEL # of make check

# Two skills of the demo as a pool; the configuration as it is installed, its model smaller.
mkdir data
"$BUILD/demo/generate" data 1
echo '{"reverse": {"file_name": "reverse.jsonl"}, "translate": {"file_name": "translate.jsonl"}}' >data/dataset_info.json
cp -r "$SRC/configs" .
sed -i -e 's/"hidden_size": 128/"hidden_size": 32/' -e 's/"intermediate_size": 344/"intermediate_size": 64/' \
	configs/models/tiny-llama/config.json
export DATA=data POOL=reverse,translate TARGET=translate=40 WARMUP=24 STEPS=32 SELECT=20% DIM=64

same_files()
{
	for f in pool.h5 val.h5 val.proj.h5 index.h5 eval.txt run/checkpoint-24/model.safetensors \
		run/checkpoint-32/model.safetensors run/checkpoint-32/optimizer.safetensors run/checkpoint-32/df_state.json; do
		same "$1: the same $f" "sh/$f" "$2/$f"
	done
}
less_mk="make -f $SRC/pipelines/less.mk"

ok 'the script' env OUT=sh "$SRC/pipelines/less.sh"
prints 'ends with an evaluation' '^overall +40 '
share=$(df-show --json sh/index.h5 | sed -E 's/.*"translate": \{"rows": ([0-9]+).*/\1/')
[ "$share" -gt 91 ] # of 152: 60 %; by chance it would be 47 %
report $? "it selects for the target: $share of 152"
ok 'the script again' env OUT=sh "$SRC/pipelines/less.sh"
is 'does nothing but evaluate' "$(grep -cv '^df-eval: ' "$T/err")" 0
mv sh/index.h5 sh/run/checkpoint-32 .
ok 'the script, for what is missing' env OUT=sh "$SRC/pipelines/less.sh"
same 'makes the same index' index.h5 sh/index.h5
same 'and the same model' checkpoint-32/model.safetensors sh/run/checkpoint-32/model.safetensors

# shellcheck disable=SC2086 # words
{
	ok 'make, in four parts' $less_mk -j2 OUT=mk SHARDS=4
	is 'there are four' "$(cd mk && echo pool.proj.*)" \
		"$(printf 'pool.proj.0000%d-of-00004.h5 ' 1 2 3 4 | sed 's/ $//')"
	same_files 'make -j2' mk
	ok 'nothing is left to do' $less_mk -q OUT=mk SHARDS=4
	ok 'the plan' $less_mk -n OUT=plan SHARDS=2
	prints 'has the parts' '--shard 00002/2 '
	exits 2 'without data' env -u DATA $less_mk OUT=x
	says 'it says what to set' 'set DATA to the folder'
}

# no_group PID: none of its processes lives
no_group()
{
	cat /proc/[0-9]*/stat | awk -v group="$1" '$5 == group && $3 != "Z" { found = 1 } END { exit found }'
}

# Kill the whole tree of processes as soon as the warm-up is there, and as soon as a part is.
# $1 is a signal, $2 a file.
interrupt()
{
	set -m
	# shellcheck disable=SC2086
	$less_mk -j2 OUT=killed SHARDS=4 >killed.log 2>&1 &
	set +m
	tries=0
	while ! compgen -G "$2" >/dev/null && [ $tries -lt 3000 ]; do
		sleep 0.01
		tries=$((tries + 1))
	done
	kill "-$1" -- "-$!" 2>/dev/null
	wait $! 2>/dev/null
	wait_for no_group $! # what make started may die after it, and holds its locks until then
}
interrupt KILL 'killed/run/checkpoint-24'
interrupt TERM 'killed/pool.proj.*.h5'
[ ! -e killed/eval.txt ]
report $? 'killed twice, before the end'
wrong=
for f in killed/*.h5; do
	df-show -q --check "$f" >/dev/null 2>>"$T/err" || wrong="$wrong $f"
done
is_empty 'what has its name is whole' "$wrong"
# shellcheck disable=SC2086
ok 'make again' $less_mk -j2 OUT=killed SHARDS=4
same_files 'killed' killed
# The lock of a writer that was killed after its file was whole may stay: it is free.
is_empty 'nothing is left beside' "$(find killed -name '.*df-*' ! -name '.*.df-lock')"

# Each other method: the script and make choose the same rows and make the same model.
export EPS=0.0002 THRESHOLD=0.9999 WINDOWS=2 MIN_LENGTH=1 UPDATE=3 # a tiny model's vectors lie close together
for script in "$SRC"/pipelines/*.sh; do
	m=$(basename "$script" .sh)
	case $m in common | less | nice) continue ;; esac # nice: pipelines-nice.t
	ok "$m: the script" env OUT="sh.$m" "$script"
	ok "$m: make" make -j2 -f "$SRC/pipelines/$m.mk" OUT="mk.$m" SHARDS=2
	case $m in
	doremi) more='proxy/domain_weights.h5 run/mixture_log.jsonl' ;;
	odm) more='run/mixture_log.jsonl run.svg' ;;
	adapt) more='run/weight_log.jsonl run.svg' ;;
	*) more=index.h5 ;;
	esac
	# Its state names the file of proportions, which lies in OUT.
	[ "$m" = doremi ] && sed -i 's/mk\.doremi/sh.doremi/' mk.doremi/run/checkpoint-32/df_state.json
	for f in $more eval.txt run/checkpoint-32/model.safetensors run/checkpoint-32/df_state.json; do
		same "$m: the same $f" "sh.$m/$f" "mk.$m/$f"
	done
done
# What methods with a target choose of its 360 rows among 760; by chance half of 152.
for m in near rds cluster-less; do
	share=$(df-show --json "sh.$m/index.h5" | sed -E 's/.*"translate": \{"rows": ([0-9]+).*/\1/')
	[ "$share" -gt 91 ]
	report $? "$m selects for the target: $share of 152"
done

done_testing
