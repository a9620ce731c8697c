#!/bin/bash
# df-score loss, delta-loss, ppl, ifd and dsir on real files: from texts to a choice; rows without their prompts.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

index_of()
{
	text_of "$1" index
}

pack()
{
	df-pack -q --dataset-dir data --tokenizer bytes --cutoff-len 128 "$@"
}

# --- losses --------------------------------------------------------------------------------------------------------------

df-grad -q -m $CKPT --losses pool.h5 -o loss.h5
ok 'loss' df-score loss --train loss.h5 -n 8 -o i.h5 --scores-output s.h5
says 'the domains of the choice' 'chose 8 of 34 rows: sums [0-9]+/20, turns [0-9]+/14'
is 'the score is the loss' "$(text_of s.h5 score)" "$(text_of loss.h5 loss)"
is 'probabilities sum to 1' "$(text_of s.h5 probability | tr , '\n' | awk '{ s += $1 } END { printf "%.5f", s }')" 1.00000
is 'the index is for the tokens of the losses' "$(lineage_of i.h5 | grep -c "$(id_of pool.h5)")" 1
for threads in 1 3; do
	ok "$threads threads" df-score -q -j $threads loss --train loss.h5 -n 8 -o j.h5
	same 'choose the same' j.h5 i.h5
done
ok 'another step' df-score -q loss --train loss.h5 -n 8 --step 1 -o step.h5
is 'draws others' "$([ "$(index_of i.h5)" = "$(index_of step.h5)" ] || echo others)" others
ok 'the chosen are trained on' df-train -q train.yaml output_dir=run2 --index i.h5 --until 1
ok 'an amount of tokens' df-score -q loss --train loss.h5 --tokens pool.h5 -n 500tok -o tok.h5
index_of i.h5 | tr , '\n' >taken
ok 'without those' df-score -q loss --train loss.h5 --exclude taken -n 26 -o rest.h5
is 'none is among them' "$(index_of rest.h5 | tr , '\n' | grep -cxFf taken)" 0
ok 'with replacement' df-score -q loss --train loss.h5 --replacement -n 100 -o many.h5
ok "DataFlex's way" df-score -q loss --compat dataflex --train loss.h5 -n 8 -o d.h5
is 'is recorded' "$(lineage_of d.h5 | grep -c 'compat.*dataflex')" 1
exits 65 'the wrong kind' df-score loss --train pool.h5 -n 8 -o x.h5
says 'is named' 'pool.h5'

ok 'delta-loss, the first time' df-score -q delta-loss --train loss.h5 -n 8 -o first.h5
ok 'is random' df-score -q random --train pool.h5 -n 8 -o random.h5
is 'to the row' "$(index_of first.h5)" "$(index_of random.h5)"
df-grad -q -m run2/checkpoint-1 --losses pool.h5 -o later.h5
ok 'delta-loss, later' df-score delta-loss --train later.h5 --reference loss.h5 --ordinal 2 --update-times 3 -n 8 -o d.h5 \
	--scores-output ds.h5
is 'both losses are its inputs' "$(lineage_of d.h5 | grep -c "$(id_of loss.h5)")" 1
exits 64 'which selection it is' df-score delta-loss --train later.h5 --reference loss.h5 -n 8 -o x.h5
says 'has to be said' '--ordinal and --update-times'
ok 'losses that got worse' df-score delta-loss --train loss.h5 --reference loss.h5 --window 0.1 --ordinal 1 --update-times 1 -n 3 -o d.h5

ok 'ppl' df-score -q ppl --train loss.h5 --band 0.1,0.9 -n 5 -o p.h5
is 'begins with the highest in the band' "$(text_of p.h5 score | tr , '\n' | sort -gr | head -n 1)" \
	"$(text_of p.h5 score | cut -d, -f1)"

# --- rows without their prompts ----------------------------------------------------------------------------------------------

cat >data/talk.jsonl <<'E2'
{"conversations": [{"from": "human", "value": "What is 2 + 2?"}, {"from": "gpt", "value": "Four."}, {"from": "human", "value": "And 3 + 3?"}, {"from": "gpt", "value": "Six, of course."}], "system": "Be brief."}
{"conversations": [{"from": "human", "value": "A long question, so long that not much of the answer is left when it is cut"}, {"from": "gpt", "value": "An answer that is long, too, and has to be cut in both forms at the same place, wherever that is"}]}
E2
cat >data/dataset_info.json <<'E2'
{ "sums": { "file_name": "sums.jsonl" }, "turns": { "file_name": "turns.jsonl" },
  "talk": { "file_name": "talk.jsonl", "formatting": "sharegpt", "columns": { "messages": "conversations", "system": "system" } } }
E2

# targets FILE: which tokens they are.  In glm4, which has one eos for the row, a question begins with the target eos (2);
# the first token of a row, whose label it may also be, is not predicted.
targets()
{
	paste -d' ' <(text_of "$1" tokens/ids | tr , '\n') <(text_of "$1" tokens/label_mask | tr , '\n') |
		awk -v history="$2" '$2 == 1 { printf "%s ", $1 } $2 == 2 && !history { printf "eos " }'
}

for template in alpaca llama3 qwen3 mistral llama2 glm4 empty; do
	for more in '' --mask-history; do
		ok "$template $more" df-pack -q --dataset-dir data --dataset talk,sums --tokenizer bytes --template $template \
			--cutoff-len 150 $more -o a.h5 --no-prompt b.h5
		is 'the same rows' "$(text_of b.h5 sample/id) $(text_of b.h5 sample/source_row)" \
			"$(text_of a.h5 sample/id) $(text_of a.h5 sample/source_row)"
		is 'the same targets' "$(targets b.h5 "$more")" "$(targets a.h5 "$more")"
		is 'no row is longer' "$(paste -d' ' <(text_of a.h5 tokens/offsets | tr , '\n') <(text_of b.h5 tokens/offsets | tr , '\n') |
			awk '{ if (NR > 1 && $2 - b > $1 - a) n++; a = $1; b = $2 } END { print n + 0 }')" 0
		is 'the questions are gone' "$(strings -n 4 b.h5 | grep -c 'What is')" 0
	done
done
pack --dataset talk --template llama3 --cutoff-len 500 -o a.h5 --no-prompt b.h5 2>/dev/null
is 'only the header of an answer is left' "$(df-show --decode 0 b.h5 | grep -c 'user')" 0
is 'for each answer' "$(df-show --decode 0 b.h5 | grep -o 'assistant' | wc -l)" 2
is 'and the end of a question, which ends answers too, is not' \
	"$(df-show --decode 0 b.h5 | sed '/^--- ids/q' | grep -o 'eot_id' | wc -l)" 2
ok 'with a holdout' pack --dataset sums,turns --template alpaca --holdout turns=6 --holdout-output v.h5 -o p.h5 --no-prompt n.h5
same 'the pool is the same as without' p.h5 pool.h5
same 'and so is the holdout' v.h5 val.h5
is 'the other form says whose rows it has' "$(lineage_of n.h5 | grep -c "rows_of.*$(id_of pool.h5)")" 1
ok 'into a stream' sh -c 'df-pack -q --dataset-dir data --dataset sums,turns --template alpaca --tokenizer bytes --cutoff-len 128 \
	--holdout turns=6 --holdout-output v.h5 -o - --no-prompt n2.h5 | cat >p.stream'
same 'the same' n2.h5 n.h5
exits 64 'packs' pack --dataset sums --template alpaca --neat-packing -o p.h5 --no-prompt x.h5
says 'are refused' 'without packing'
exits 64 'prompts as targets' pack --dataset sums --template alpaca --train-on-prompt -o p.h5 --no-prompt x.h5
says 'are refused' 'exclude each other'
exits 64 'plain text' pack --dataset sums --stage pt -o p.h5 --no-prompt x.h5
exits 64 'to a stream' pack --dataset sums --template alpaca -o p.h5 --no-prompt -
exits 64 'alone' pack --dataset sums --template alpaca --no-prompt x.h5 --show-example 0
exits 64 'the same file' pack --dataset sums --template alpaca -o x.h5 --no-prompt x.h5
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

df-grad -q -m $CKPT --losses n.h5 -o n.loss.h5
is 'losses name both forms' "$(lineage_of n.loss.h5 | grep -c "$(id_of n.h5).*rows_of.*$(id_of pool.h5)")" 1
ok 'ifd' df-score ifd --train loss.h5 --no-prompt n.loss.h5 -n 5 -o i.h5 --scores-output s.h5
is 'the score is a quotient' "$(paste -d' ' <(text_of loss.h5 loss | tr , '\n') <(text_of n.loss.h5 loss | tr , '\n') <(text_of s.h5 score | tr , '\n') |
	awk '{ d = $1 / $2 - $3; if (d > 1e-5 || d < -1e-5) n++ } END { print n + 0, NR }')" '0 34'
is 'none is above 1' "$(text_of i.h5 score | tr , '\n' | awk '$1 > 1' | wc -l)" 0
ok 'the chosen are trained on' df-train -q train.yaml output_dir=run3 --index i.h5 --until 1
ok 'in shards' sh -c "df-grad -q -m $CKPT --losses --shard 1/2 n.h5 -o half.h5 && df-grad -q -m $CKPT --losses --shard 2/2 n.h5 -o half.h5"
ok 'the same' sh -c 'df-score -q ifd --train loss.h5 --no-prompt "half*h5" -n 5 -o h.h5'
is 'rows' "$(index_of h.h5)" "$(index_of i.h5)"
exits 65 'exchanged' df-score ifd --train n.loss.h5 --no-prompt loss.h5 -n 5 -o x.h5
says 'is told' 'n.loss.h5 has the losses without prompts'
exits 65 'the same form twice' df-score ifd --train loss.h5 --no-prompt loss.h5 -n 5 -o x.h5
says 'is told' 'the same tokens'
df-grad -q -m run2/checkpoint-1 --losses n.h5 -o other.h5
exits 65 'another checkpoint' df-score ifd --train loss.h5 --no-prompt other.h5 -n 5 -o x.h5
says 'is told' 'checkpoint'
pack --dataset sums --template alpaca -o q.h5 --no-prompt qn.h5
df-grad -q -m $CKPT --losses qn.h5 -o qn.loss.h5
exits 65 'of other rows' df-score ifd --train loss.h5 --no-prompt qn.loss.h5 -n 5 -o x.h5
says 'is told' "'tokens'"
pack --dataset sums --template empty -o e.h5 --no-prompt en.h5
df-grad -q -m $CKPT --losses e.h5 -o e.loss.h5
df-grad -q -m $CKPT --losses en.h5 -o en.loss.h5
ok 'a template without a header' df-score ifd --train e.loss.h5 --no-prompt en.loss.h5 --short truncate -n 5 -o e.i.h5
says 'loses the first token of each' 'another number of targets'

# --- dsir ---------------------------------------------------------------------------------------------------------------------

ok 'dsir' df-score dsir --train pool.h5 --target val.h5 --min-length 5 -n 8 -o i.h5 --scores-output s.h5
says 'the target is of turns' 'turns [5-8]/14'
for threads in 1 2 5; do
	ok "$threads threads" df-score -q -j $threads dsir --train pool.h5 --target val.h5 --min-length 5 -n 8 -o j.h5 --scores-output js.h5
	same 'choose the same' j.h5 i.h5
	same 'by the same scores' js.h5 s.h5
done
ok 'the largest' df-score -q dsir --train pool.h5 --target val.h5 --min-length 5 --top -n 8 -o t.h5
is 'have the best ranks' "$(text_of t.h5 score | tr , '\n')" "$(text_of s.h5 score | tr , '\n' | sort -gr | head -n 8)"
ok 'of token ids' df-score -q dsir --train pool.h5 --target val.h5 --units tokens -n 8 -o u.h5
ok 'by length' df-score -q dsir --train pool.h5 --target val.h5 --min-length 5 --norm length -n 8 -o l.h5
exits 64 'short rows' df-score dsir --train pool.h5 --target val.h5 -n 8 -o x.h5
says 'are left out' '34 of 34 rows have fewer than 100 words'
says 'so that none is there' 'only 0 are valid'
exits 64 'no target' df-score dsir --train pool.h5 -n 8 -o x.h5
says 'is asked for' 'dsir needs --target FILE'
exits 66 'an unknown tokenizer' df-score dsir --train pool.h5 --target val.h5 --tokenizer byte -n 8 -o x.h5
says 'suggests one' "did you mean 'bytes'"
ok 'with a template of more tokens' pack --dataset sums --template llama3 -o l3.h5
ok 'words of both' df-score -q dsir --train pool.h5 --target l3.h5 --min-length 5 -n 8 -o b.h5
exits 65 'ids of both' df-score dsir --train pool.h5 --target l3.h5 --units tokens -n 8 -o x.h5
says 'mean other things' 'tokenizer'
T2=$SRC/tests/golden/tokenizer
if tok=$(find "$T2" -name tokenizer.json | head -n 1) && [ -n "$tok" ]; then
	ok 'another tokenizer' df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer "$tok" --cutoff-len 128 -o bpe.h5
	exits 64 'has to be named' df-score dsir --train bpe.h5 --target val.h5 --min-length 5 -n 8 -o x.h5
	says 'with the file' 'bpe.h5: name the tokenizer that made it'
	ok 'named' df-score -q dsir --train bpe.h5 --target val.h5 --tokenizer "$tok" --min-length 5 -n 8 -o x2.h5
	exits 65 'another one' df-score dsir --train bpe.h5 --target val.h5 --tokenizer bytes --min-length 5 -n 8 -o x.h5
else
	skip 'another tokenizer' 'no tokenizer.json here'
fi
# Two targets share the choice by their words; the first one chooses first.
pack --dataset sums --max-samples 6 --template alpaca -o t2.h5
ok 'two targets' df-score dsir --train pool.h5 --target val.h5 --target t2.h5 --min-length 5 --top -n 10 -o two.h5
says 'share the choice' 'sums 5/20, turns 5/14'
ok 'by tokens' df-score -q dsir --train pool.h5 --target val.h5 --target t2.h5 --min-length 5 -n 600tok -o two.tok.h5
ok 'cycle' df-score -q dsir --train pool.h5 --target val.h5 --min-length 5 --short cycle -n 40 -o c.h5
is 'has as many' "$(index_of c.h5 | tr , '\n' | grep -c .)" 40
ok 'without those' df-score -q dsir --train pool.h5 --target val.h5 --min-length 5 --exclude i.h5 -o rest.h5
is 'all others' "$(index_of rest.h5 | tr , '\n' | sort -n | tr '\n' ' ')" \
	"$(seq 0 33 | grep -vxFf <(index_of i.h5 | tr , '\n') | tr '\n' ' ')"
printf 'one text, and words\nanother text\n' >data/plain.txt
echo '{ "plain": { "file_name": "plain.txt", "columns": { "prompt": "text" } } }' >data/dataset_info.json
ok 'plain texts' df-pack -q --dataset-dir data --dataset plain --stage pt --no-packing --tokenizer bytes -o plain.h5
ok 'are a target, too' df-score -q dsir --train pool.h5 --target plain.h5 --min-length 5 -n 8 -o pt.h5
is_empty 'nothing appears under the name' "$(ls x.h5 2>/dev/null)"

done_testing
