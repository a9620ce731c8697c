#!/bin/sh
# -m RUN, in every program that has it: a run's directory that holds checkpoints only names the newest; one with a model
# has that, and says so where a checkpoint is newer.
. "$(dirname "$0")/lib.sh"
. "$SRC/tests/cmd/grad_data.sh"

# What else a program needs.
run()
{
	p=$1
	shift
	case $p in
	df-merge) "$p" "$@" -o "$T/made" ;;
	df-grad | df-embed) "$p" "$@" val.h5 -o "$T/made" ;;
	df-sample) "$p" "$@" val.h5 --max-new-tokens 1 --max-samples 1 ;;
	*) "$p" "$@" val.h5 ;;
	esac
}

# At step 9 and not at 10: numbers, not names, are compared.
ok 'a run goes on' df-train -q train.yaml save_steps=1 save_total_limit=3 --until 10
mkdir run/checkpoint-99 run/checkpoint-x # no models
programs=
for path in "$BUILD"/bin/df-*; do
	p=$(basename "$path")
	"$p" --list-options | grep -q '^model	m	string	' || continue # df-plan's is NAME=DIR, a list
	programs="$programs $p"
	exits 66 "$p -m RUN" run "$p" -m run
	says '  names the newest checkpoint' "^$p: run/config.json: No such file or directory; did you mean its newest checkpoint, run/checkpoint-10\\?$"
	exits 66 "$p -m DIR without any" run "$p" -m data
	says '  names none' "^$p: data/config.json: No such file or directory$"
	ok "$p -m CHECKPOINT" run "$p" -m run/checkpoint-10
	rm -rf made
done
is 'programs with -m' "$programs" ' df-embed df-eval df-grad df-merge df-sample'
exits 66 'df-train on such a run' df-train train.yaml output_dir=new train_from_scratch=false model_name_or_path=run
says '  names it too' 'newest checkpoint, run/checkpoint-10'
exits 66 'df-train with such an adapter' df-train train.yaml output_dir=new train_from_scratch=false finetuning_type=lora \
	model_name_or_path=run/checkpoint-10 adapter_name_or_path=run
says '  names it too' 'newest checkpoint, run/checkpoint-10'
[ ! -e new ]
report $? '  and makes nothing'

ok 'the run ends' df-train -q train.yaml max_steps=12
for p in $programs; do
	ok "$p takes the model at its end" run "$p" -m run
	! grep -q 'is newer' err
	report $? '  without a word'
	rm -rf made
done
ok 'the model is that of the last step' df-grad -q -m run val.h5 -o a.h5
df-grad -q -m run/checkpoint-12 val.h5 -o b.h5
same '  to the byte' a.h5 b.h5
ok 'the run is prolonged' df-train -q train.yaml max_steps=20 save_steps=2 --until 14
for p in $programs; do
	ok "$p takes the model that is there" run "$p" -m run
	says '  and says that it is old' 'warning: run: the model after step 12; run/checkpoint-14 is newer'
	rm -rf made
done
done_testing
