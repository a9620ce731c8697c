#!/bin/bash
# pipelines/nice.*: the loop with a reward as a script and as a makefile in parts gives the same files, also when make
# was killed halfway; rewards from a program, from exact answers, and from a reward model.
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
export DATA=data POOL=reverse,translate TARGET=translate=12 WARMUP=24 STEPS=32 SELECT=20% DIM=64 SAMPLES=4 MAX_TOKENS=12

# A reward of one's own: the letters that the answer begins with, and that come first in the completion.
cat >judge <<'END2'
#!/bin/sh
awk '
function member(key, end,    from, text) {
	from = index($0, "\"" key "\": ") + length(key) + 4
	text = substr($0, from)
	return substr(text, 1, index(text, end) - 1)
}
{
	got = member("completion", "\", \"answer\"")
	want = member("answer", "\", \"tokens\"")
	for (n = 0; n < length(want) && substr(got, n + 2, 1) == substr(want, n + 2, 1);)
		n++
	printf "{\"id\": %d, \"sample\": %d, \"reward\": %g}\n", member("id", ","), member("sample", ","), 0.1 + n
}'
END2
chmod +x judge
export REWARD=./judge

same_files()
{
	for f in pool.h5 val.h5 draws.jsonl rewards val.proj.h5 index.h5 eval.txt run/checkpoint-24/model.safetensors \
		run/checkpoint-32/model.safetensors run/checkpoint-32/df_state.json; do
		same "$1: the same $f" "sh/$f" "$2/$f"
	done
}
nice_mk="make -f $SRC/pipelines/nice.mk"

ok 'the script' env OUT=sh "$SRC/pipelines/nice.sh"
prints 'ends with an evaluation' '^overall +12 '
is 'four answers to each prompt' "$(wc -l <sh/draws.jsonl)" 48
is 'and as many rewards' "$(grep -c reward sh/rewards)" 48
ok 'the choice' df-show sh/index.h5
prints 'is by NICE' 'method +"nice"'
ok 'the script again' env OUT=sh "$SRC/pipelines/nice.sh"
is 'does nothing but evaluate' "$(grep -cv '^df-eval: ' "$T/err")" 0
mv sh/index.h5 sh/rewards sh/val.proj.h5 .
ok 'the script, for what is missing' env OUT=sh "$SRC/pipelines/nice.sh"
same 'makes the same gradients' val.proj.h5 sh/val.proj.h5
same 'and the same index' index.h5 sh/index.h5

# shellcheck disable=SC2086 # words
{
	ok 'make, in three parts' $nice_mk -j2 OUT=mk SHARDS=3
	is 'there are three of the answers' "$(cd mk && echo draws.0*.h5)" \
		"$(printf 'draws.0000%d-of-00003.h5 ' 1 2 3 | sed 's/ $//')"
	same_files 'make -j2' mk
	ok 'nothing is left to do' $nice_mk -q OUT=mk SHARDS=3
	ok 'the plan' $nice_mk -n OUT=plan SHARDS=2
	prints 'has the parts' '--shard 00002/2 '
	exits 2 'without data' env -u DATA $nice_mk OUT=x
	says 'it says what to set' 'set DATA to the folder'
}

# no_group PID: none of its processes lives
no_group()
{
	cat /proc/[0-9]*/stat | awk -v group="$1" '$5 == group && $3 != "Z" { found = 1 } END { exit found }'
}

# Kill the whole tree of processes as soon as a file is there.  $1 is a signal, $2 a file.
interrupt()
{
	set -m
	# shellcheck disable=SC2086
	$nice_mk -j2 OUT=killed SHARDS=3 >killed.log 2>&1 &
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
interrupt KILL 'killed/draws.0*.jsonl'
interrupt TERM 'killed/draws.jsonl'
interrupt KILL 'killed/rewards'
[ ! -e killed/eval.txt ]
report $? 'killed three times, before the end'
# shellcheck disable=SC2086
ok 'make again' $nice_mk -j2 OUT=killed SHARDS=3
same_files 'killed' killed
# The lock of a writer that was killed after its file was whole may stay: it is free.
is_empty 'nothing is left beside' "$(find killed -name '.*df-*' ! -name '.*.df-lock')"

# The other rewards, on the same warm-up and answers.
unset REWARD
for way in match rm; do
	mkdir $way.sh
	cp -r sh/pool.h5 sh/val.h5 sh/draws.h5 sh/draws.jsonl sh/pool.proj.h5 $way.sh
	mkdir $way.sh/run
	cp -r sh/run/checkpoint-24 $way.sh/run
done
cp -r sh/run/checkpoint-24 judge.model
sed -i 's/"LlamaForCausalLM"/"LlamaForSequenceClassification"/; s/"vocab_size"/"num_labels": 259, "vocab_size"/' judge.model/config.json
sed -i 's/"lm_head.weight"/"score.weight"  /' judge.model/model.safetensors
ok 'exact answers' env OUT=match.sh MATCH=text "$SRC/pipelines/nice.sh"
is 'are rewards of 0 and 1' "$(grep -c '"reward": [01]}' match.sh/rewards)" 48
ok 'a reward model' env OUT=rm.sh JUDGE=judge.model "$SRC/pipelines/nice.sh"
ok 'its scores' df-show rm.sh/rewards
prints 'are the rewards' 'scores, 48 rows'

done_testing
