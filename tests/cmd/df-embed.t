#!/bin/bash
# df-embed: the same vectors on any number of threads, in shards, through streams and after an interruption; texts and
# tokens; what a hostile directory or row gets.  DF_TEST_DEVICE: again on the backend that finds device bugs.
# (test_embed compares with sentence-transformers.)
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

export DF_TEST_DEVICE="${DF_TEST_DEVICE:-cpu}"
E=$SRC/tests/golden/embed
embed()
{
	df-embed --device "$DF_TEST_DEVICE" "$@"
}
# vectors WHAT GOT WANT: the same numbers; on a device that is not exact, within rounding
vectors()
{
	if [ "$DF_TEST_DEVICE" != openblas ]; then
		is "$@"
		return
	fi
	printf '%s\n' "$2" "$3" | awk -F, '
		NR == 1 { n = split($0, a) }
		NR == 2 { for (i = 1; i <= NF; i++) if ((d = $i - a[i]) > 1e-5 || d < -1e-5) bad = 1; bad = bad || n != NF }
		END { exit bad || n < 1 }'
	report $? "$1"
}
awk 'BEGIN {
	for (i = 0; i < 500; i++) {
		printf "{\"text\": \"the quick fox %d", i * i
		for (k = 0; k < i % 17; k++) printf " on and %c", 97 + (i + k) % 26
		print "\"}"
	}
}' >many.jsonl

# --- texts ------------------------------------------------------------------------------------------------------------

ok 'texts' embed -j 1 -m "$E/bert" many.jsonl -o one.h5
says 'the summary counts rows' '^df-embed: 500 rows in '
is 'a vector of each' "$(h5ls one.h5/embedding)" 'embedding                Dataset {500, 32}'
ok 'on three threads' embed -q -j 3 -m "$E/bert" many.jsonl -o three.h5
same 'the same bytes' one.h5 three.h5
for i in 2 3 1; do
	ok "part $i of 3" embed -q -m "$E/bert" --shard $i/3 many.jsonl -o part.h5
done
ok 'the parts are whole' df-show --check part.h5
df-show --link=linked.h5 part.h5 >out 2>err
is 'and have the same rows' "$(text_of linked.h5 embedding | cksum)" "$(text_of one.h5 embedding | cksum)"
embed -q -m "$E/bert" many.jsonl -o - 2>>err | cat >stream.out
ok 'a stream' sh -c 'df-show --check - <stream.out'
is 'ids are rows' "$(text_of one.h5 sample/id | tr , '\n' | head -n 3 | tr '\n' ' ')" '0 1 2 '
ok 'the end alone, as a file of its own' sh -c 'tail -n 3 many.jsonl >tail.jsonl'
embed -q -m "$E/bert" tail.jsonl -o tail.h5
vectors 'a row has its vector whatever is around it' "$(text_of tail.h5 embedding)" \
	"$(text_of one.h5 embedding | tr , '\n' | tail -n 96 | paste -sd,)"

for t in f16 bf16; do
	ok "as $t" embed -q -m "$E/bert" --dtype $t many.jsonl -o $t.h5
	ok "$t: its digest is of what a reader reads" df-show --check $t.h5
	embed -q -m "$E/bert" --dtype $t many.jsonl -o - | df-show --json - >a 2>err
	df-show --json $t.h5 >b 2>>err
	is "$t: a stream carries the rounded values" "$(grep -o '"rows": 500, "id": "[0-9a-f]*"' a)" "$(grep -o '"rows": 500, "id": "[0-9a-f]*"' b)"
done

# --- forms of texts -----------------------------------------------------------------------------------------------------

echo '{"instruction": "Add", "input": "1 and 2", "output": "3", "prediction": "4"}' >row.jsonl
echo '{"instruction": "Say", "input": null}' >>row.jsonl
printf '%s\n' '{"text": "Instruction: Add\nInput: 1 and 2\nOutput: 3\nPrediction:4"}' \
	'{"text": "Instruction: Say\nInput: \nOutput: \nPrediction:"}' >dataflex.jsonl
printf '%s\n' '{"text": "Instruction: Add\nInput: 1 and 2\nOutput: 3"}' \
	'{"text": "Instruction: Say\nInput: \nOutput: "}' >alpaca.jsonl
for form in alpaca dataflex; do
	name=${form/dataflex/dataflex-alpaca}
	ok "$name" embed -q -m "$E/qwen3" --template "$name" row.jsonl -o got.h5
	embed -q -m "$E/qwen3" $form.jsonl -o want.h5
	is "$name: its lines" "$(text_of got.h5 embedding)" "$(text_of want.h5 embedding)"
done
printf 'the quick fox 0\nthe quick fox 1 on and b\n' >lines.txt
ok 'lines of a text file' embed -q -m "$E/bert" lines.txt -o lines.h5
vectors 'the same vectors' "$(text_of lines.h5 embedding)" "$(text_of one.h5 embedding | tr , '\n' | head -n 64 | paste -sd,)"
ok 'another column' embed -q -m "$E/bert" --column instruction row.jsonl -o col.h5
ok 'datasets' embed -q -m "$E/bert" --dataset-dir data --dataset sums,turns --template alpaca -o ds.h5
is 'their rows have domains' "$(text_of ds.h5 sample/domain | tr , '\n' | sort | uniq -c | tr -s ' \n' ' ')" ' 20 0 20 1 '
ok 'a dry run' embed -m "$E/bert" -n many.jsonl
prints 'says what it would write' '^numbers      32 a row$'

# --- tokens -------------------------------------------------------------------------------------------------------------

ok 'tokens through a decoder' embed -q -m $CKPT pool.h5 -o dec.h5
is 'their ids and domains are kept' "$(text_of dec.h5 sample/id)$(text_of dec.h5 sample/domain)" \
	"$(text_of pool.h5 sample/id)$(text_of pool.h5 sample/domain)"
df-pack -q --dataset-dir data --dataset sums,turns --template alpaca --tokenizer bytes --cutoff-len 128 \
	--holdout turns=6 --holdout-output val2.h5 -o - 2>err | embed -q -m $CKPT - -o str.h5 2>>err
is 'a stream of tokens gives the same content' "$(id_of str.h5)" "$(id_of dec.h5)"
embed -q -m $CKPT --max-length 5 pool.h5 -o cut.h5 2>err
ok 'cut to length' embed -m $CKPT --max-length 5 pool.h5 -o cut.h5
says 'which is told' '34 rows cut to length'
exits 64 'options of texts are not for tokens' embed -m $CKPT --tokenizer bytes pool.h5 -o x.h5
exits 65 'tokens of another tokenizer' embed -m "$E/bert" --max-length 30 pool.h5 -o x.h5
says 'names both' 'pool.h5 .*bytes.*bert'
cp -r "$E/bert" mute && rm mute/tokenizer.json
exits 65 'tokens beyond the vocabulary' embed -m mute --max-length 30 pool.h5 -o x.h5
says 'are named with their rows' 'pool.h5: rows 0\.\.33: .*token [0-9]+ at .*the vocabulary has 100'
[ ! -e x.h5 ]
report $? 'and leave no output'
ok 'texts through a decoder, bytes its tokens' embed -q -m $CKPT --tokenizer bytes lines.txt -o x.h5
ok 'an empty row' sh -c "printf 'one\n\ntwo\n' >gap.txt"
ok 'has a vector' embed -m $CKPT --tokenizer bytes gap.txt -o gap.h5
says 'of zeros, with a warning' '1 rows are empty: their vectors are zero'

cp -r $CKPT other
sed -i 's/"tokenizer": *"[^"]*"/"tokenizer": "another"/' other/df_state.json
exits 65 'tokens of another tokenizer than the checkpoint was trained with' embed -m other pool.h5 -o x.h5
says 'both are named' "made with tokenizer 'bytes', the checkpoint other trained with 'another'"
exits 65 'texts likewise' embed -m other --tokenizer bytes lines.txt -o x.h5

# --- texts of the rows that tokens are made of ----------------------------------------------------------------------------

ok 'the rows of the held out tokens' embed -q -m "$E/qwen3" --dataset-dir data --dataset sums,turns --rows val.h5 \
	--template alpaca -o rows.h5
is 'with their ids' "$(text_of rows.h5 sample/id)" "$(text_of val.h5 sample/id)"
embed -q -m "$E/qwen3" --dataset-dir data --dataset turns --template alpaca -o turns.h5
row=$(text_of val.h5 sample/source_row | cut -d, -f3)
is 'and their vectors' "$(text_of rows.h5 embedding | tr , '\n' | sed -n '65,96p')" \
	"$(text_of turns.h5 embedding | tr , '\n' | sed -n "$((row * 32 + 1)),$((row * 32 + 32))p")"
ok 'those of the pool' embed -q -m "$E/qwen3" --dataset-dir data --dataset turns,sums --rows pool.h5 --template alpaca -o rows.h5
is 'keep their domains' "$(text_of rows.h5 sample/domain)" "$(text_of pool.h5 sample/domain)"
exits 65 'not without one of its datasets' embed -q -m "$E/qwen3" --dataset-dir data --dataset sums --rows pool.h5 \
	--template alpaca -o x.h5
says 'which is named' "come from 'turns'"
head -n 3 data/sums.jsonl >few.jsonl
df-pack -q --dataset-dir data --dataset sums --template alpaca --tokenizer bytes -o sums.h5
exits 65 'nor with fewer rows' embed -m "$E/qwen3" --rows sums.h5 --template alpaca few.jsonl -o x.h5
says 'which are counted' "sample 3 is row 3 of 'few.jsonl', which has 3"
exits 64 'rows are of texts' embed -m $CKPT --rows pool.h5 pool.h5 -o x.h5

# --- an interruption -----------------------------------------------------------------------------------------------------

df-embed -q -j 1 --device "$DF_TEST_DEVICE" -m "$E/bert" many.jsonl -o again.h5 &
sleep 0.15
kill -9 $! 2>/dev/null
wait $! 2>/dev/null
ok 'after a kill the same command' embed -q -j 2 -m "$E/bert" many.jsonl -o again.h5
same 'ends with the same bytes' again.h5 one.h5

# --- hostile input ---------------------------------------------------------------------------------------------------------

printf '{"text": "fine"}\n{"text": "bad \377 bytes"}\n' >utf8.jsonl
exits 65 'text that is not UTF-8' embed -m "$E/bert" utf8.jsonl -o x.h5
says 'is named with its row' 'utf8.jsonl: row 1'
printf 'fine\nbad \377 bytes\n' >utf8.txt
exits 65 'nor in a line' embed -m "$E/bert" utf8.txt -o x.h5
says 'nor there without its row' 'utf8.txt: row 1 \(line 2\)'
echo '{"text": 3}' >number.jsonl
exits 65 'a column that is no text' embed -m "$E/bert" number.jsonl -o x.h5
says 'is named' "row 0 .*'text': expected a string"
exits 78 'a column that no row has' embed -m "$E/bert" --column nope many.jsonl -o none.h5
says 'is named, and those that are there' "dataset 'many.jsonl': no row has the column 'nope'; the columns are 'text'"
printf '{"text": "there"}\n{"texts": "not"}\n' >some.jsonl
exits 65 'a column that one row lacks' embed -m "$E/bert" some.jsonl -o none.h5
says 'is named with the row' "some.jsonl: row 1 \\(line 2\\): no column 'text'"
echo '{"Instruction": "Add", "output": "3"}' >caps.jsonl
for form in alpaca dataflex-alpaca; do
	exits 78 "lines of $form of other columns" embed -m "$E/bert" --template $form caps.jsonl -o none.h5
	says 'are named' "no row has the column 'instruction'.*; did you mean 'Instruction'\\? The columns are 'Instruction', 'output'"
done
[ ! -e none.h5 ]
report $? 'nothing is written'
: >empty.jsonl
exits 65 'an empty file' embed -m "$E/bert" empty.jsonl -o x.h5

# broken 'what' STATUS SAYS FILE TEXT: a copy of the tiny BERT with another FILE
broken()
{
	rm -rf broken
	cp -r "$E/bert" broken
	chmod -R u+w broken
	if [ "$5" = absent ]; then rm "broken/$4"; else printf '%s' "$5" >"broken/$4"; fi
	exits "$2" "$1" embed -m broken lines.txt -o x.h5
	says '  and says so' "$3"
}
T1='{"idx":0,"path":"","type":"sentence_transformers.models.Transformer"}'
P1='{"idx":1,"path":"1_Pooling","type":"sentence_transformers.models.Pooling"}'
cp -r "$E/qwen3" lower
chmod -R u+w lower
echo '{"do_lower_case": true, "max_seq_length": 24}' >lower/sentence_bert_config.json
echo 'THE QUICK FOX' >upper.txt
echo 'the quick fox' >lower.txt
ok 'do_lower_case' embed -q -m lower upper.txt -o got.h5
embed -q -m "$E/qwen3" lower.txt -o want.h5
is 'lowers' "$(text_of got.h5 embedding)" "$(text_of want.h5 embedding)"
broken 'modules.json cut short' 65 'modules.json' modules.json '[{"idx": 0,'
broken 'of another type' 65 'expected an array' modules.json '{}'
broken 'without modules' 65 'no Transformer' modules.json '[]'
broken 'without pooling' 65 'no Pooling' modules.json "[$T1]"
broken 'in another order' 69 'order' modules.json "[$P1,$T1]"
broken 'with a Dense layer' 69 "'sentence_transformers.models.Dense' is not supported" modules.json \
	"[$T1,$P1,{\"path\":\"2_Dense\",\"type\":\"sentence_transformers.models.Dense\"}]"
broken 'no pooling configuration' 66 '1_Pooling/config.json: missing' 1_Pooling/config.json absent
broken 'no mode is on' 65 'no pooling_mode' 1_Pooling/config.json '{}'
broken 'two modes' 69 'one pooling at a time' 1_Pooling/config.json \
	'{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": true}'
broken 'max pooling' 69 'pooling_mode_max_tokens' 1_Pooling/config.json '{"pooling_mode_max_tokens": true}'
# The spelling of sentence-transformers 5.4 and later: the vectors of the old one.
# pooled OLD NEW...: each NEW pools as OLD does
pooled()
{
	rm -rf mode
	cp -r "$E/bert" mode
	chmod -R u+w mode
	echo "{\"word_embedding_dimension\": 32, \"$1\": true}" >mode/1_Pooling/config.json
	ok "$1" embed -q -m mode lines.txt -o old.h5
	shift
	for new; do
		echo "{\"embedding_dimension\": 32, \"pooling_mode\": $new}" >mode/1_Pooling/config.json
		ok "pooling_mode $new" embed -q -m mode lines.txt -o new.h5
		same "$new: the same bytes" new.h5 old.h5
	done
}
pooled pooling_mode_cls_token '"cls"' '["cls"]' '"cls", "pooling_mode_mean_tokens": true'
cp old.h5 cls.h5
pooled pooling_mode_lasttoken '"lasttoken"' '["lasttoken"]'
pooled pooling_mode_weightedmean_tokens '"weightedmean"'
pooled pooling_mode_mean_tokens '"mean"' '["mean"]' 'null, "pooling_mode_mean_tokens": true'
is 'two poolings differ' "$(text_of old.h5 embedding | cksum | grep -c "$(text_of cls.h5 embedding | cksum)")" 0
is 'the mean is that of the golden directory' "$(text_of old.h5 embedding)" "$(text_of lines.h5 embedding)"
for mode in max mean_sqrt_len_tokens magic MEAN ''; do
	broken "pooling_mode $mode" 69 "1_Pooling/config.json: 'pooling_mode': '$mode' is not supported" \
		1_Pooling/config.json "{\"pooling_mode\": \"$mode\"}"
done
broken 'a list of an unknown one' 69 "'magic' is not supported" 1_Pooling/config.json '{"pooling_mode": ["magic"]}'
broken 'two words' 69 "'cls' together with 'mean' is not supported: one pooling" 1_Pooling/config.json \
	'{"pooling_mode": ["mean", "cls"]}'
broken 'no word' 65 "'pooling_mode' is an empty list" 1_Pooling/config.json '{"pooling_mode": []}'
for mode in 3 true '{}' '[3]' '[["mean"]]'; do
	broken "pooling_mode $mode" 65 "'pooling_mode': expected a string" 1_Pooling/config.json "{\"pooling_mode\": $mode}"
done
broken 'a list of no words' 69 'one pooling at a time' 1_Pooling/config.json '{"pooling_mode": [1, 2]}'
broken 'a mode that is no flag' 65 'pooling_mode_mean_tokens' 1_Pooling/config.json '{"pooling_mode_mean_tokens": 1}'
broken 'a length below 1' 65 'max_seq_length' sentence_bert_config.json '{"max_seq_length": -3}'
broken 'prompts without the default' 64 "unknown prompt 'x'" config_sentence_transformers.json '{"default_prompt_name": "x"}'
broken 'prompts of another type' 65 'expected a string' config_sentence_transformers.json \
	'{"default_prompt_name": "x", "prompts": {"x": [1]}}'
broken 'no tokenizer' 66 'tokenizer.json' tokenizer.json absent
broken 'no weights' 66 'model.safetensors' model.safetensors absent
sed 's/"gelu"/"gelu_new"/' "$E/bert/config.json" >config.json
broken 'another activation' 69 "hidden_act.*gelu_new" config.json "$(cat config.json)"
sed 's/"absolute"/"relative_key"/' "$E/bert/config.json" >config.json
broken 'relative positions' 69 'position_embedding_type' config.json "$(cat config.json)"
sed 's/"bert"/"xlm-roberta"/' "$E/bert/config.json" >config.json
broken 'XLM-RoBERTa' 69 "'xlm-roberta' is not supported" config.json "$(cat config.json)"

exits 64 'no model' embed many.jsonl -o x.h5
exits 64 'nothing to embed' embed -m "$E/bert" -o x.h5
exits 64 'a pooling that is none' embed -m "$E/bert" --pooling max many.jsonl -o x.h5
exits 64 'tokens beside texts' embed -m "$E/bert" many.jsonl pool.h5 -o x.h5
exits 65 'losses instead of tokens' sh -c "df-grad -q -m $CKPT --losses pool.h5 -o l.h5 && df-embed -m $CKPT l.h5 -o x.h5"

done_testing
