#!/bin/bash
# NICE: completions, rewards from programs, exact answers and reward models, policy gradients, the choice.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

draw="df-sample -q -m $CKPT val.h5 -n 4 --temperature 1 --top-k 50 --top-p 0.95 --max-new-tokens 12"
ok 'completions' $draw -o draws.h5 --json draws.jsonl
is 'four of each prompt' "$(wc -l <draws.jsonl)" 24
is 'the lines have the answers of the rows' \
	"$(sed -nE 's/.*"answer": "(.*)", "tokens".*/\1/p' draws.jsonl | sort -u | wc -l)" 6

# A program of one's own: the number of tokens, less the number of the completion; never 0.
reward='s/^\{"id": ([0-9]+), "sample": ([0-9]+),.*"tokens": ([0-9]+),.*/\1 \2 \3/p'
sed -nE "$reward" draws.jsonl | awk '{ printf "{\"id\": %d, \"sample\": %d, \"reward\": %g}\n", $1, $2, $3 / 4 - $2 - 0.1 }' >rewards.jsonl
grad="df-grad -q -m $CKPT --rewards rewards.jsonl --project 64"
ok 'policy gradients' df-grad -m $CKPT --rewards rewards.jsonl --project 64 draws.h5 -o val.proj.h5
says 'the summary counts prompts' '^df-grad: 6 prompts in '
is 'a row for each prompt, with its id' "$(text_of val.proj.h5 sample/id)" 0,1,2,3,4,5
is 'and its domain' "$(text_of val.proj.h5 sample/domain)" "$(text_of val.h5 sample/domain)"
is 'targets are those of all completions' "$(text_of val.proj.h5 n_tokens | tr , '\n' | awk '{ s += $1 } END { print s }')" \
	"$(sed -nE 's/.*"tokens": ([0-9]+),.*/\1/p' draws.jsonl | awk '{ s += $1 } END { print s }')"
ok 'gradients in a file' df-grad -q -m $CKPT --rewards rewards.jsonl draws.h5 -o val.grad.h5
ok 'projected from it' df-project -q -k 64 val.grad.h5 -o val.filed.h5
is 'the same content' "$(id_of val.filed.h5)" "$(id_of val.proj.h5)"
is 'and lineage' "$(lineage_of val.filed.h5)" "$(lineage_of val.proj.h5)"
ok 'the plan' df-grad -m $CKPT --rewards rewards.jsonl --project 64 --dry-run draws.h5
prints 'counts prompts, and the tokens of completions' "^rows +6 in [0-9]+ blocks, $(h5ls draws.h5/tokens/ids | tr -dc 0-9) tokens"

# --- blocks, threads, shards, interruptions ---------------------------------------------------------------------------

ok 'one thread, small blocks' $grad -j 1 --block-rows 4 draws.h5 -o one.h5
ok 'three threads' $grad -j 3 --block-rows 4 draws.h5 -o three.h5
same 'threads change nothing' one.h5 three.h5
is 'nor do blocks' "$(id_of one.h5)" "$(id_of val.proj.h5)"
ok 'poison' $grad --device poison draws.h5 -o poison.h5
is 'nor does a backend that poisons what it frees' "$(id_of poison.h5)" "$(id_of val.proj.h5)"
for i in 3 1 2; do
	ok "part $i of 3" $grad --block-rows 4 --shard $i/3 draws.h5 -o part.h5
done
ok 'parts as one' df-show --link whole.h5 part.h5
is 'are the whole' "$(text_of whole.h5 projection)" "$(text_of one.h5 projection)"
for i in 2 1; do
	ok "completions, part $i of 2" $draw --shard $i/2 -o some.h5
done
ok 'gradients of both parts' $grad some.h5 -o some.proj.h5
is 'are those of the whole' "$(text_of some.proj.h5 projection)" "$(text_of val.proj.h5 projection)"
killed=0
for delay in 0.02 0.04 0.06 0.1 0.2; do
	$grad -j 1 --block-rows 4 draws.h5 -o again.h5 &
	sleep $delay
	kill -9 $! 2>/dev/null && killed=$((killed + 1))
	wait $! 2>/dev/null
	[ ! -e again.h5 ] || break
done
ok 'after kills it goes on' $grad -j 1 --block-rows 4 draws.h5 -o again.h5
same "and ends with the same bytes ($killed kills)" again.h5 one.h5

# --- where rewards come from ---------------------------------------------------------------------------------------------

sed -nE 's/.*"reward": (.*)\}/\1/p' rewards.jsonl >rewards.txt
ok 'a number per line' df-grad -q -m $CKPT --rewards rewards.txt --project 64 draws.h5 -o text.proj.h5
is 'gives the same' "$(text_of text.proj.h5 projection)" "$(text_of val.proj.h5 projection)"
awk '{ print NR - 1 "\t" $1 }' rewards.txt | sort -rn >rewards.tsv
ok 'by sample id, in any order' df-grad -q -m $CKPT --rewards rewards.tsv --project 64 draws.h5 -o text.proj.h5
is 'gives the same, too' "$(text_of text.proj.h5 projection)" "$(text_of val.proj.h5 projection)"
ok 'from a pipe' sh -c "df-grad -q -m $CKPT --rewards - --project 64 draws.h5 -o pipe.proj.h5 <rewards.jsonl"
is 'gives the same content' "$(id_of pipe.proj.h5)" "$(id_of val.proj.h5)"

# A reward model is the language model's head under another name.
cp -r $CKPT judge
sed -i 's/"LlamaForCausalLM"/"LlamaForSequenceClassification"/; s/"vocab_size"/"num_labels": 259, "vocab_size"/' judge/config.json
sed -i 's/"lm_head.weight"/"score.weight"  /' judge/model.safetensors
ok 'a reward model scores completions' df-eval -q -m judge --label 111 draws.h5 -o judged.h5
ok 'its scores are rewards' df-grad -q -m $CKPT --rewards judged.h5 --project 64 draws.h5 -o judged.proj.h5
h5dump -y -w 0 -m %.17g -d score judged.h5 | awk '/DATA {/ { inside = 1; next } /}/ && inside { exit } inside' |
	tr -d ' \n' | tr , '\n' >judged.txt
ok 'as they are in text' df-grad -q -m $CKPT --rewards judged.txt --project 64 draws.h5 -o judged.text.h5
is 'with the same numbers' "$(id_of judged.text.h5)" "$(id_of judged.proj.h5)"
ok 'negative ones through a sigmoid' df-grad -q -m $CKPT --rewards judged.h5 --reward-map sigmoid --policy rejection \
	--project 64 draws.h5 -o x.h5
is_empty 'are all positive then' "$(cat err)"
df-eval -q -m judge --label 111 val.h5 -o judged.val.h5 >err
exits 65 'scores of other samples' df-grad -m $CKPT --rewards judged.val.h5 --project 64 draws.h5 -o x.h5
says 'are refused by lineage' 'judged.val.h5 was made for tokens'

# Exact answers.
{
	sed -n '1,8p' draws.jsonl
	sed -nE '9,12s/"completion": .*, "answer": ("[^"]*")/"completion": \1, "answer": \1/p' draws.jsonl
	sed -n '13,24p' draws.jsonl
} >right.jsonl
ok 'exact answers' df-eval -q --completions right.jsonl --details matched.jsonl
prints 'four of them' '^overall +24 +[0-9]+ +16\.67%'
is 'those of prompt 2' "$(grep -c '"id": 2, .*"match": true, "reward": 1' matched.jsonl)" 4
ok 'are rewards' df-grad -m $CKPT --rewards matched.jsonl --project 64 draws.h5 -o matched.proj.h5
says 'a warning counts prompts without any' '5 prompts have no completion that counts: their gradient is zero'
is 'whose rows are zero' "$(text_of matched.proj.h5 projection | tr , '\n' | awk '$1 != 0 { rows[int((NR - 1) / 64)] = 1 }
	END { for (r in rows) print r }')" 2

# --- which completions count ----------------------------------------------------------------------------------------------

norms() # of the rows of FILE
{
	text_of "$1" projection | tr , '\n' | awk '{ s[int((NR - 1) / 64)] += $1 * $1 } END { for (i = 0; i < 6; i++) printf "%d", (s[i] > 0) }'
}
printf '%s\n' 1 0 0 -1 0 0 0 0 -1 -1 -1 -1 2 3 1 1 5 0 0 0 0 0 0 1 >r.txt
policy="df-grad -q -m $CKPT --rewards r.txt --project 64 draws.h5 -o p.h5"
ok 'vanilla' $policy --policy vanilla
is 'takes all that are not zero' "$(norms p.h5)" 101111
ok 'rejection' $policy --policy rejection
is 'takes the positive' "$(norms p.h5)" 100111
ok 'hard rejection' $policy --policy hard --reference-rewards 2
is 'takes those as good as the answer' "$(norms p.h5)" 000110
printf '{"id": %d, "reward": %g}\n' 0 1 1 1 2 1 3 4 4 5 5 1 >reference.jsonl
ok 'answers with rewards of their own' $policy --policy hard --reference-rewards reference.jsonl
is 'are each the measure of its prompt' "$(norms p.h5)" 100011
ok 'the best' $policy --policy topk --topk 1
is 'if positive' "$(norms p.h5)" 100111
ok 'the best, hard' $policy --policy topk-hard --topk 1 --reference-rewards 2
is 'if as good' "$(norms p.h5)" 000110
ok 'protection' ${policy/ -q/} --policy rejection --protect val.h5 --reference-rewards 1
says 'counts those that it helps' 'no completion of 2 prompts counts: their own answers take the place'
is 'gives all a gradient' "$(norms p.h5)" 111111
ok 'the baseline' $policy --baseline loo
is 'leaves equal rewards without a gradient' "$(norms p.h5)" 100111
ok 'tokens alike' $policy --nll mean

# --- the choice --------------------------------------------------------------------------------------------------------------

df-grad -q -m $CKPT --form adam --project 64 pool.h5 -o pool.proj.h5
df-grad -q -m $CKPT --form sgd --project 64 val.h5 -o less.proj.h5
nice="df-score -q nice --train pool.proj.h5"
ok 'nice' $nice --val val.proj.h5 -n 8 -o nice.h5 --scores-output nice.scores.h5
is 'eight ids' "$(h5ls nice.h5/index)" 'index                    Dataset {8}'
is 'the index begins with the best rank' "$(text_of nice.h5 index | cut -d, -f1)" \
	"$(text_of nice.scores.h5 rank | tr , '\n' | grep -nx 0 | awk -F: '{ print $1 - 1 }')"
ok 'is LESS on these gradients' df-score less --train pool.proj.h5 --val val.proj.h5 -n 8 -o less.h5
says 'which says that they are not its own' "in 'policy' form"
is 'the same ids' "$(text_of less.h5 index)" "$(text_of nice.h5 index)"
ok 'with all of its options' $nice --val val.proj.h5 --train pool.proj.h5 --val val.proj.h5 --ckpt-weights 2,1 --agg mean \
	--val-agg cosine-of-mean --subtasks none -n 8 -o x.h5
printf '0\n%.0s' $(seq 24) >zeros
df-grad -q -m $CKPT --rewards zeros --project 64 draws.h5 -o zero.proj.h5 2>err
ok 'no reward at all' $nice --val zero.proj.h5 --scores-output zero.scores.h5
is 'is similar to nothing' "$(text_of zero.scores.h5 score | tr , '\n' | sort -u)" 0
exits 65 'gradients of losses' $nice --val less.proj.h5 -n 8 -o x.h5
says 'are not policy gradients' "less.proj.h5: gradients in form 'sgd'; nice compares with policy gradients"
exits 65 'policy gradients to choose from' df-score nice --train val.proj.h5 --val val.proj.h5 -n 1 -o x.h5
says 'are the target' "policy gradients are the target's"
exits 64 'no target' $nice -n 8 -o x.h5

# A second checkpoint has completions of its own, and rows of the same prompts.
df-train -q train.yaml --until 5
$draw -m run/checkpoint-5 -o draws5.h5 --json draws5.jsonl
sed -nE "$reward" draws5.jsonl | awk '{ print $3 / 4 - $2 }' >rewards5.txt
df-grad -q -m run/checkpoint-5 --form adam --project 64 pool.h5 -o pool5.proj.h5
df-grad -q -m run/checkpoint-5 --rewards rewards5.txt --project 64 draws5.h5 -o val5.proj.h5
ok 'two checkpoints' $nice --val val.proj.h5 --train pool5.proj.h5 --val val5.proj.h5 --ckpt-weights 3e-5,1e-5 -n 8 -o two.h5
exits 65 'in the wrong order' $nice --val val5.proj.h5 --train pool5.proj.h5 --val val.proj.h5 -n 8 -o x.h5
says 'are noticed' "'checkpoint' is"

# --- refusals ------------------------------------------------------------------------------------------------------------------

exits 65 'completions of another checkpoint' df-grad -m $CKPT --rewards rewards5.txt --project 64 draws5.h5 -o x.h5
says 'name both and the way out' 'draws5.h5 was drawn from checkpoint [0-9a-f]{32}, but run/checkpoint-3 is .*--off-policy'
ok 'unless that is accepted' df-grad -m $CKPT --off-policy --rewards rewards5.txt --project 64 draws5.h5 -o x.h5
says 'with a warning' 'drawn from another checkpoint'
exits 65 'tokens that are no completions' df-grad -m $CKPT --rewards zeros --project 64 val.h5 -o x.h5
says 'have no prompts' "no 'sample/prompt'.*df-sample"
exits 65 'a reward is missing' sh -c "sed 23d rewards.jsonl | df-grad -m $CKPT --rewards - draws.h5 -o x.h5"
says 'which is named' '1 of 24 rewards are missing, the first is that of sample 22 \(completion 2 of prompt 5\)'
exits 65 'a second reward' sh -c "sed p rewards.jsonl | df-grad -m $CKPT --rewards - draws.h5 -o x.h5"
says 'is named with its line' 'line 2: a second reward of sample 0 \(completion 0 of prompt 0\)'
exits 65 'a reward that is no number' sh -c "sed '7s/.*/nan/' rewards.txt | df-grad -m $CKPT --rewards - draws.h5 -o x.h5"
says 'with its line' 'line 7: .*nan'
exits 65 'a reward of nothing' sh -c "echo '{\"id\": 6, \"sample\": 0, \"reward\": 1}' | df-grad -m $CKPT --rewards - draws.h5 -o x.h5"
says 'names the prompt' 'line 1: there is no completion 0 of prompt 6'
exits 66 'no such file' df-grad -m $CKPT --rewards none draws.h5 -o x.h5
exits 65 'answers of other prompts' $policy --policy rejection --protect pool.h5 --reference-rewards 1
says 'are noticed' 'pool.h5: its id is '
exits 64 'an option without rewards' df-grad -m $CKPT --policy rejection draws.h5 -o x.h5
says 'says what it is for' 'policy is for completions with --rewards'
for wrong in '--losses' '--gate-load' '--form adam' '--policy hard' '--policy rejection --baseline loo' '--topk 0' \
	'--protect val.h5 --reference-rewards 1' '--reference-rewards 1' '--policy rejection --protect val.h5'; do
	exits 64 "together with $wrong" df-grad -m $CKPT --rewards r.txt $wrong draws.h5 -o x.h5
done
exits 64 'the output replaces the rewards' df-grad -m $CKPT --rewards r.txt draws.h5 -o r.txt

# --- df-eval --completions ------------------------------------------------------------------------------------------------------

printf '%s\n' '{"id": 3, "sample": 1, "completion": "It is 1,200.", "answer": "1200", "domain": "sums", "finish": "length"}' '' \
	'{"id": 4, "completion": " x", "answer": "x"}' >c.jsonl
ok 'numbers' df-eval -q --completions c.jsonl --match number --details -
prints 'a detail' '^\{"id": 3, "sample": 1, "domain": "sums", "match": true, "reward": 1\}$'
prints 'without a number of its own' '^\{"id": 4, "domain": "all", "match": false, "reward": 0\}$'
prints 'by domain' '^sums +1 +1 +100.00%'
ok 'as JSON' sh -c 'df-eval -q --completions - --match strip --json <c.jsonl'
prints 'of what' '^  "completions": "-",$'
prints 'with counts' '"overall": \{"samples": 2, "cut": 1, "match": 0.5'
exits 64 'with a model' df-eval -m $CKPT --completions c.jsonl
exits 64 'with tokens' df-eval --completions c.jsonl val.h5
exits 65 'no answer' sh -c 'echo "{\"id\": 1, \"completion\": \"x\"}" | df-eval --completions -'
says 'names the line' "line 1: 'answer': expected a string, found no such member"
exits 65 'no JSON' sh -c 'printf "\n{\"id\"" | df-eval --completions -'
says 'its line, too' 'line 2: '
exits 65 'nothing at all' df-eval --completions /dev/null
says 'is said' 'no completion'

done_testing
