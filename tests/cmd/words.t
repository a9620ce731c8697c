#!/bin/sh
# A misspelt word gets the one that was meant: every option whose value is one of known words, in every program and
# method, taken from their own tables; then the words that are no options' values.
# shellcheck disable=SC2086,SC2094 # commands are words, and a file of that name
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"
E=$SRC/tests/golden/embed/bert
quiet='-q --dataset-dir data'
echo 'a b' >words.txt
mkdir -p mmlu/test mmlu/dev
echo 'q,a,b,c,d,A' >mmlu/test/virology_test.csv

needs()
{
	case $1 in
	*:device) echo ;;
	df-pack:*) echo $quiet --dataset sums --tokenizer bytes --template alpaca -o x.h5 ;;
	df-sample:*) echo $quiet --dataset sums -m run/checkpoint-3 --tokenizer bytes --template alpaca ;;
	df-eval:*) echo $quiet --dataset sums -m run/checkpoint-3 --tokenizer bytes --template alpaca ;;
	df-embed:*) echo -q -m "$E" words.txt -o x.h5 ;;
	df-plan:*) echo -q model_name_or_path=$SRC/demo/model dataset=sums dataset_dir=data template=alpaca output_dir=planned ;;
	df-show:*) echo --decode 0 pool.h5 ;;
	'df-score less':*) echo --train a.proj.h5 --val a.proj.h5 -o x.h5 ;;
	'df-score rds':*) echo --train a.emb.h5 --query a.emb.h5 -o x.h5 ;;
	'df-score dsir':*) echo --train val.h5 --target val.h5 -o x.h5 ;;
	'df-score cluster-less':*) echo --train clusters.h5 --reps a.proj.h5 --val a.proj.h5 -o x.h5 ;;
	'df-score combine':*) echo --train val.h5 --scores clusters.h5 -n 2 -o x.h5 ;;
	'df-score nice':*) echo --train a.proj.h5 --val p.proj.h5 -o x.h5 ;;
	*) return 1 ;;
	esac
}

df-grad -q -m run/checkpoint-3 --project 16 val.h5 -o a.proj.h5
df-embed -q -m run/checkpoint-3 val.h5 -o a.emb.h5
df-score cluster -q --train a.emb.h5 --num-clusters 2 --scores-output clusters.h5 -o reps.h5
df-sample -q -m run/checkpoint-3 --max-new-tokens 2 val.h5 -o draws.h5
seq 6 | df-grad -q -m run/checkpoint-3 --rewards - --project 16 draws.h5 -o p.proj.h5
commands >commands
while read -r p <&3; do
	$p --list-options | awk -F '\t' '$5 != "-" { print $1, $3, $5 }' >"$p.words"
	[ -s "$p.words" ]
	report $? "$p: options of known words are found"
	while read -r option type words; do
		word=${words##*|}
		near=$word$(printf %s "$word" | tail -c 1)
		args=
		if [ "$type" != choice ] && ! args=$(needs "$p:$option"); then
			report 1 "$p --$option: this test knows what it needs"
			continue
		fi
		got=0
		$p $args --$option="$near" >"$T/out" 2>"$T/err" </dev/null || got=$?
		case $got in
		64 | 66) ;;
		*) report 1 "$p --$option=$near exits with $got" ;;
		esac
		says "$p --$option=$near suggests '$word'" "did you mean '$word'\\?"
		[ ! -e x.h5 ]
		report $? '  and makes nothing'
		rm -f x.h5
	done <"$p.words"
done 3<commands

# suggests 'what' WORD CMD ...
suggests()
{
	what=$1
	word=$2
	shift 2
	! "$@" >"$T/out" 2>"$T/err"
	report $? "$what is refused"
	says '  and gets the right one' "did you mean '$word'\\?"
}
suggests 'a method' custom df-score custm --train a.proj.h5 -o x.h5
suggests 'a dataset' sums df-pack $quiet --dataset sum --tokenizer bytes --template alpaca -o x.h5
suggests 'a dataset to hold out' turns df-pack $quiet --dataset sums,turns --tokenizer bytes --template alpaca \
	--holdout turn=3 --holdout-output y.h5 -o x.h5
suggests 'a subject' virology df-eval -q -m run/checkpoint-3 --mmlu mmlu --subjects virologie --shots 0
suggests 'a key' learning_rate df-train train.yaml learning_rte=1
suggests 'a schedule' cosine df-train train.yaml lr_scheduler_type=cosin
suggests 'a strategy' steps df-train train.yaml save_strategy=step
suggests 'a switch' auto df-train train.yaml gradient_checkpointing=auot
suggests 'a curve' cosine df-train train.yaml output_dir=other lr_scheduler_type=warmup_stable_decay lr_scheduler_kwargs.decay_type=cosin
suggests 'a target of LoRA' q_proj df-train train.yaml output_dir=other train_from_scratch=false model_name_or_path=run/checkpoint-3 \
	finetuning_type=lora lora_target=q_prj,v_proj
done_testing
