#!/bin/bash
# df-grad: the same numbers fused, piped, in shards, on any number of threads, and after an interruption.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

# --- outputs ------------------------------------------------------------------------------------------------------

ok 'losses' df-grad -m $CKPT --losses pool.h5 -o losses.h5
says 'the summary counts samples' '^df-grad: 34 samples in '
is 'losses of every row' "$(h5ls losses.h5/loss)" 'loss                     Dataset {34}'
ok 'losses of every target' df-grad -q -m $CKPT --losses --token-loss pool.h5 -o token.h5
is 'which are as many as n_tokens says' "$(h5ls token.h5/token_loss/values | tr -dc 0-9)" \
	"$(text_of losses.h5 n_tokens | tr , '\n' | awk '{ s += $1 } END { print s }')"

ok 'gradients in a file' df-grad -q -m $CKPT --form sgd val.h5 -o val.grad.h5
ok 'projected on the way' df-grad -q -m $CKPT --form sgd --project 200 val.h5 -o val.fused.h5
ok 'projected from the file' df-project -q -k 200 val.grad.h5 -o val.filed.h5
is 'the same content' "$(id_of val.filed.h5)" "$(id_of val.fused.h5)"
is 'the same lineage' "$(lineage_of val.filed.h5)" "$(lineage_of val.fused.h5)"

for form in adam sgd sign; do
	df-grad -q -m $CKPT --form $form --project 100 pool.h5 -o $form.fused.h5 2>err
	df-grad -q -m $CKPT --form $form pool.h5 -o - 2>>err | df-project -q -k 100 - -o $form.piped.h5 2>>err
	is "form $form: a pipe gives the fused content" "$(id_of $form.piped.h5)" "$(id_of $form.fused.h5)"
	is "form $form: and its lineage" "$(lineage_of $form.piped.h5)" "$(lineage_of $form.fused.h5)"
done
df-grad -q -m $CKPT --project 64 --type sjlt -s 3 pool.h5 -o sjlt.fused.h5 2>err
df-grad -q -m $CKPT pool.h5 -o - 2>>err | df-project -q -k 64 --type sjlt -s 3 - -o sjlt.piped.h5 2>>err
is 'sparse: a pipe gives the fused content' "$(id_of sjlt.piped.h5)" "$(id_of sjlt.fused.h5)"

# --- blocks, threads, shards ------------------------------------------------------------------------------------------

ok 'one thread, small blocks' df-grad -q -j 1 -m $CKPT --form adam --project 100 --block-rows 5 pool.h5 -o one.h5
ok 'three threads' df-grad -q -j 3 -m $CKPT --form adam --project 100 --block-rows 5 pool.h5 -o three.h5
same 'threads change nothing' one.h5 three.h5
is 'nor do blocks' "$(id_of one.h5)" "$(id_of adam.fused.h5)"
# Few rows are one block, which all threads work on.
awk 'BEGIN {
	for (i = 0; i < 50; i++)
		printf "{\"instruction\": \"Add %d and %d.\", \"input\": \"\", \"output\": \"%d\"}\n", i, 3 * i, 4 * i
}' >data/fifty.jsonl
sed 's/^{/{ "fifty": { "file_name": "fifty.jsonl" },/' data/dataset_info.json >info && mv info data/dataset_info.json
for rows in 1 2 50; do
	df-pack -q --dataset-dir data --dataset fifty --template alpaca --tokenizer bytes --cutoff-len 128 \
		--max-samples $rows -o few.h5 2>err
	# shellcheck disable=SC2086 # options are words
	for out in '--project 100' '--project 64 --type sjlt' '' '--losses'; do
		df-grad -q -j 1 -m $CKPT --form sgd $out few.h5 -o few1.h5 2>>err
		for j in 2 4; do
			df-grad -q -j $j -m $CKPT --form sgd $out few.h5 -o few$j.h5 2>>err
			same "$rows rows on $j threads: ${out:-gradients}" few1.h5 few$j.h5
		done
	done
done
for i in 3 1 2; do
	ok "part $i of 3" df-grad -q -m $CKPT --form adam --project 100 --block-rows 5 --shard $i/3 pool.h5 -o part.h5
done
ok 'poison' df-grad -q --device poison -m $CKPT --form adam --project 100 pool.h5 -o poison.h5
is 'the poisoned backend gives the same content' "$(id_of poison.h5)" "$(id_of adam.fused.h5)"

df-grad -q -m $CKPT --form sgd --project 100 val.h5 -o val.proj.h5
df-score -q less --train one.h5 --val val.proj.h5 -n 10 -o index.h5
df-score -q less --train part.h5 --val val.proj.h5 -n 10 -o index.parts.h5
same 'the index from the parts is that from the whole' index.h5 index.parts.h5
rm part.00002-of-00003.h5
exits 66 'a missing part is noticed' df-score -q less --train part.h5 --val val.proj.h5 -n 10 -o x.h5
says 'and named' '00002|2 of 3|part 2'

# --- interruptions ----------------------------------------------------------------------------------------------------------

# Kill it at a moment of its choosing until it gets through; then compare.
killed=0
for delay in 0.05 0.1 0.2 0.3 0.4; do
	df-grad -q -j 1 -m $CKPT --form adam --project 100 --block-rows 1 pool.h5 -o again.h5 &
	sleep $delay
	kill -9 $! 2>/dev/null && killed=$((killed + 1))
	wait $! 2>/dev/null
	[ ! -e again.h5 ] || break
done
ok 'after kills it goes on' df-grad -q -j 1 -m $CKPT --form adam --project 100 --block-rows 1 pool.h5 -o again.h5
df-grad -q -j 1 -m $CKPT --form adam --project 100 --block-rows 1 pool.h5 -o straight.h5
same "and ends with the same bytes ($killed kills)" again.h5 straight.h5
is_empty 'nothing is left beside' "$(find . -name '*df-work*')"

# A signal: what is done is kept, and the status asks for another run.
many="-j 1 -m $CKPT --form adam --project 2000 --block-rows 1 pool.h5"
# shellcheck disable=SC2086
LD_PRELOAD=$BUILD/tests/killat.so DF_KILL_COUNT=calls df-grad -q $many -o calm.h5
# shellcheck disable=SC2086
exits 75 'SIGTERM ends it with status 75' env LD_PRELOAD="$BUILD/tests/killat.so" DF_TERM_AT=$(($(cat calls) / 2)) \
	df-grad -q $many -o term.h5
is_empty 'without a result' "$(ls term.h5 2>/dev/null)"
# shellcheck disable=SC2086
ok 'the same command finishes' df-grad $many -o term.h5
says 'and says that it goes on' 'going on after [0-9]+ rows that were done before'
same 'with the bytes of an undisturbed run' term.h5 calm.h5
rm -f term.h5 calm.h5

# --- router loads ---------------------------------------------------------------------------------------------------

mkdir moe
moe='"num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 2,'
moe="$moe \"shared_expert_intermediate_size\": 20"
sed "s/LlamaForCausalLM/Qwen2MoeForCausalLM/; s/\"llama\"/\"qwen2_moe\", $moe/" model/config.json >moe/config.json
sed 's/^model_name_or_path:.*/model_name_or_path: moe/; s/^output_dir:.*/output_dir: moe.run/' train.yaml >moe.yaml
ok 'a mixture of experts trains' df-train -q moe.yaml --until 2
ok 'and says where tokens go' df-grad -q -m moe.run/checkpoint-2 --gate-load pool.h5 -o load.h5
is 'to the experts of two layers' "$(h5ls load.h5/gate_load)" 'gate_load                Dataset {34, 12}'
is 'each token to two, in the second' "$(text_of load.h5 gate_load | tr , '\n' | awk '
	(NR - 1) % 12 < 6 { dense += $1 } (NR - 1) % 12 >= 6 { sparse += $1 } END { print dense, sparse }')" \
	"0 $((2 * $(h5ls pool.h5/tokens/ids | tr -dc 0-9)))"
ok 'blocks and threads change nothing' df-grad -q -j 2 -m moe.run/checkpoint-2 --gate-load --block-rows 3 pool.h5 -o load3.h5
is 'to the content' "$(id_of load3.h5)" "$(id_of load.h5)"
exits 69 'a dense model has none' df-grad -m $CKPT --gate-load pool.h5 -o x.h5
says 'and says so' 'dense'
exits 64 'loads and losses' df-grad -m moe.run/checkpoint-2 --losses --gate-load pool.h5 -o x.h5

# --- refusals -------------------------------------------------------------------------------------------------------------------

exits 64 'no model' df-grad pool.h5 -o x.h5
exits 64 'no tokens' df-grad -m $CKPT -o x.h5
exits 64 'losses and projection' df-grad -m $CKPT --losses --project 5 pool.h5 -o x.h5
exits 66 'no such checkpoint' df-grad -m nowhere pool.h5 -o x.h5
says 'which is named' 'nowhere'
cp -r $CKPT stateless && rm stateless/optimizer.safetensors
exits 66 'Adam without its state' df-grad -m stateless --form adam pool.h5 -o x.h5
says 'says what is missing' 'optimizer.safetensors'
ok 'unless zeros will do' df-grad -q -m stateless --form adam --allow-zero-state --project 8 val.h5 -o zero.h5
exits 65 'not tokens' df-grad -m $CKPT losses.h5 -o x.h5
cp -r $CKPT other && sed -i 's/"tokenizer": "[^"]*"/"tokenizer": "another"/' other/df_state.json
exits 65 'tokens of another tokenizer' df-grad -m other --losses pool.h5 -o x.h5
says 'names both' "tokenizer 'bytes'.*'another'"
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"
ok 'what it would cost' df-grad -m $CKPT --form adam --project 100 --dry-run pool.h5
prints 'in blocks' '^rows +34 in [0-9]+ blocks'
for i in 1 2 3; do
	df-grad -m $CKPT --form adam --project 100 --block-rows 5 --shard $i/3 --dry-run pool.h5
done >"$T/out"
is 'of shards: together all rows, each once' "$(awk '$1 == "rows" { rows += $2; tokens += $6 } END { print rows, tokens }' "$T/out")" \
	"$(df-grad -m $CKPT --form adam --project 100 --dry-run pool.h5 | awk '$1 == "rows" { print $2, $6 }')"

done_testing
