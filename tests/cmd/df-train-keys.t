#!/bin/sh
# df-train: LLaMA-Factory's keys as typed.  A run logs, evaluates and saves when transformers does
# (tests/golden/strategies.py); use_dft_loss, interrupted and gone on with; max_samples; all faults at once.
# shellcheck disable=SC2086 # commands are words
. "$(dirname "$0")/lib.sh"

rows() # N SEED: questions and answers
{
	awk -v n="$1" -v seed="$2" 'BEGIN {
		srand(seed); printf "["
		for (i = 0; i < n; i++) {
			a = int(rand() * 90); b = int(rand() * 9)
			printf "%s{\"instruction\": \"%d + %d\", \"output\": \"%d\"}", i ? "," : "", a, b, a + b
		}
		print "]"
	}'
}
rows 23 5 >a.json
rows 9 6 >b.json
echo '{"a": {"file_name": "a.json"}, "b": {"file_name": "b.json"}}' >dataset_info.json
mkdir small
sed -e 's/"hidden_size": 128/"hidden_size": 16/' -e 's/"intermediate_size": 344/"intermediate_size": 32/' \
	"$SRC/configs/models/tiny-llama/config.json" >small/config.json
pack="df-pack -q --dataset-dir . --template alpaca --tokenizer bytes --cutoff-len 256"
ok 'a pool' $pack --dataset a -o a.h5
ok 'held out' $pack --dataset b -o b.h5
cat >run.yaml <<'YAML'
model_name_or_path: small
train_from_scratch: true
finetuning_type: full
tokenized_path: a.h5
eval_tokenized_path: b.h5
learning_rate: 5e-3
lr_scheduler_type: constant
YAML

# --- when: the steps at which a run logs, evaluates and saves ---

# what DIR LOSS: the steps of its log lines with this loss
what()
{
	grep -o "\"current_steps\": [0-9]*, \"total_steps\": [0-9]*, \"$2\"" "$1/trainer_log.jsonl" | sed 's/[^0-9]*\([0-9]*\).*/\1/' |
		tr '\n' ' ' | sed 's/ $//'
}
saved()
{
	find "$1" -maxdepth 1 -name 'checkpoint-*' | sed 's/.*-//' | sort -n | tr '\n' ' ' | sed 's/ $//'
}
grep '^run ' "$SRC/tests/golden/strategies.txt" >runs
i=0
while IFS=: read -r keys total did; do
	i=$((i + 1))
	keys=${keys#run } total=${total# }
	ok "run $i" df-train run.yaml -q output_dir=when$i $keys
	is "  $keys: steps" "$(sed -n 's/.*"max_steps": \([0-9]*\).*/\1/p' when$i/trainer_state.json)" "${total% }"
	is '  logs, evaluations and checkpoints' "$(what when$i loss) | $(what when$i eval_loss) | $(saved when$i)" \
		"$(echo "$did" | sed -e 's/^ //' -e 's/ $//' -e 's/| *|/|  |/')$(case $did in *'| ') echo ' ' ;; esac)"
done <runs
[ "$i" -ge 10 ]
report $? 'all of them'

# --- save_strategy: best ---

# minima EVERY: of the metrics in the input, the steps of those below all before
minima()
{
	awk -v every="$1" '{ for (i = 1; i <= NF; i++) if ($i != "nan" && (!known || $i + 0 < best)) {
		known = 1; best = $i + 0; printf "%s%d", n++ ? " " : "", i * every } }'
}
grep '^best ' "$SRC/tests/golden/strategies.txt" | while IFS='|' read -r metrics want; do
	[ "$(echo "${metrics#best }" | minima 2)" = "${want# }" ] || echo "$metrics"
done >wrong
is_empty 'best is what transformers takes for it' "$(cat wrong)"
best="df-train run.yaml per_device_train_batch_size=4 max_steps=24 eval_strategy=steps eval_steps=2 save_strategy=best \
	metric_for_best_model=loss learning_rate=0.3 lr_scheduler_type=constant_with_warmup warmup_steps=24 max_grad_norm=0"
losses()
{
	grep -o '"eval_loss": [0-9.e+-]*' "$1/trainer_log.jsonl" | cut -d' ' -f2 | tr '\n' ' '
}
ok 'the best only' $best output_dir=best
is 'are the checkpoints' "$(saved best)" "$(losses best | minima 2)"
[ "$(saved best | wc -w)" -gt 1 ] && [ "$(saved best | wc -w)" -lt 12 ]
report $? 'some of the evaluations, not all'
last=$(saved best | sed 's/.* //')
is 'the state knows the best' "$(sed -n 's/.*"best_model_checkpoint": "checkpoint-\([0-9]*\)".*/\1/p' best/trainer_state.json)" "$last"
! cmp -s "best/checkpoint-$last/model.safetensors" best/model.safetensors
report $? 'the final model is the last one'
ok 'and loaded at the end' $best output_dir=load load_best_model_at_end=true save_total_limit=1
says 'says so' "the best model is that of step $last"
same 'the final model is the best one' "best/checkpoint-$last/model.safetensors" load/model.safetensors
is 'with a limit of one it stays' "$(saved load)" "$last"
ok 'halfway' $best -q output_dir=half save_total_limit=1 --until 13
ok 'and to the end' $best -q output_dir=half save_total_limit=1
same 'the same model' half/model.safetensors best/model.safetensors
case " $(saved half) " in *" $last "*) ;; *) false ;; esac
report $? 'and the same best checkpoint'
ok 'stopped early' $best -q output_dir=early early_stopping_steps=3 save_total_limit=1 load_best_model_at_end=true
same 'the best model, too' "best/checkpoint-$last/model.safetensors" early/model.safetensors
is 'and its checkpoint, beside that of the end' "$(saved early)" "$last $((last + 6))"
ok 'an accuracy' $best -q output_dir=accuracy compute_accuracy=true metric_for_best_model=accuracy max_steps=6
exits 78 'without evaluations' df-train run.yaml output_dir=nope save_strategy=best
says 'nothing would be saved' 'command line: save_strategy: best needs eval_strategy'

# --- the last, smaller micro-batch ---

drop="df-train run.yaml -q per_device_train_batch_size=5 gradient_accumulation_steps=2 num_train_epochs=4 \
	dataloader_drop_last=true save_steps=3"
ok 'dropped' $drop output_dir=drop
is 'its rows are not seen' "$(sed -n 's/.*"global_step": \([0-9]*\).*/\1/p' drop/trainer_state.json)" 8
ok 'halfway' $drop output_dir=drop2 --until 5
ok 'and to the end' $drop output_dir=drop2
same 'the same model' drop/model.safetensors drop2/model.safetensors
ok 'kept' $drop output_dir=keep dataloader_drop_last=false
! cmp -s drop/model.safetensors keep/model.safetensors
report $? 'another model'
exits 78 'fewer rows than a micro-batch' df-train run.yaml output_dir=nope per_device_train_batch_size=24 dataloader_drop_last=true
says 'leave nothing' 'dataloader_drop_last leaves nothing: a.h5 has 23 samples'

# --- use_dft_loss ---

dft="df-train run.yaml -q per_device_train_batch_size=4 max_steps=12 logging_steps=1 save_steps=4 use_dft_loss=true \
	eval_strategy=steps eval_steps=4"
ok 'targets weighed by their probability' $dft output_dir=dft
ok 'one thread' $dft output_dir=dft1 --threads 1
same 'the same bits' dft/model.safetensors dft1/model.safetensors
ok 'halfway' $dft output_dir=dft2 --until 6
ok 'and to the end' $dft output_dir=dft2
same 'the same bits' dft/model.safetensors dft2/model.safetensors
ok 'without' $dft output_dir=plain use_dft_loss=false
lower() # FILES' losses: is each of the first below half of its fellow?
{
	losses "$1" | tr ' ' '\n' | sed '/^$/d' >x
	losses "$2" | tr ' ' '\n' | sed '/^$/d' | paste x - | awk '$1 >= $2 / 2 { bad = 1 } END { exit bad || NR != 3 }'
}
lower dft plain
report $? 'losses of evaluations are weighed, too'
ok 'going on without it' df-train run.yaml output_dir=dft max_steps=13 per_device_train_batch_size=4 use_dft_loss=false
says 'is said' 'was trained with another .*use_dft_loss'
exits 78 'stage pt' df-train run.yaml output_dir=nope stage=pt use_dft_loss=true
says 'has none' 'use_dft_loss needs stage: sft'

# --- max_samples that takes the same rows ---

fits() # TOKENS N
{
	ok "max_samples $2 for $1" df-train run.yaml -q tokenized_path="$1" max_samples="$2" --dry-run output_dir=nope
}
fits_not()
{
	exits 78 "max_samples $2 is not that of $1" df-train run.yaml tokenized_path="$1" max_samples="$2" --dry-run output_dir=nope
	says '  and why' "max_samples is $2, but $1 was packed with $3"
}
ok 'both datasets' $pack --dataset a,b -o both.h5
ok 'at most 1000 of each' $pack --dataset a,b --max-samples 1000 -o many.h5
ok 'at most 12' $pack --dataset a,b --max-samples 12 -o few.h5
ok 'more than there are of one, not of the other' $pack --dataset a,b --max-samples 23 -o edge.h5
fits both.h5 23
fits both.h5 100000
fits_not both.h5 22 'more rows of a dataset'
fits many.h5 1000
fits many.h5 23
fits many.h5 5000
fits_not many.h5 22 1000
fits few.h5 12
fits few.h5 null
fits_not few.h5 1000 12
fits_not few.h5 11 12
fits_not edge.h5 24 23
fits_not both.h5 many 'more rows of a dataset'

exits 78 'two keys that the tokens were not packed with' df-train run.yaml max_samples=5 cutoff_len=300 output_dir=nope
is 'are both named' "$(cat err)" 'df-train: max_samples is 5, but a.h5 was packed with more rows of a dataset
df-train: cutoff_len is 300, but a.h5 was packed with 256
df-train: run.yaml: 2 faults: nothing is done'

# --- faults ---

cat >bad.yaml <<'YAML'
learning_rat: 1e-3
use_unsloth: false
use_dora: true
galore_rank: 8
eval_steps: soon
YAML
exits 78 'three faults' df-train bad.yaml sede=3 output_dir=nope -q
is 'each has its line' "$(cat err)" "df-train: bad.yaml:1: unknown key 'learning_rat'; did you mean 'learning_rate'?
df-train: bad.yaml:3: use_dora: not implemented
df-train: bad.yaml:5: eval_steps: 'soon' is not a number
df-train: command line: unknown key 'sede'; did you mean 'seed'?
df-train: bad.yaml: 4 faults: nothing is done"
[ ! -e nope ]
report $? 'nothing is made'

done_testing
