#!/bin/bash
# shellcheck disable=SC2046,SC2086 # words of a list are words
# Completion in bash, zsh and fish: all words of the programs' own tables, in their places.  A shell that is not here is
# skipped; bash always is.
. "$(dirname "$0")/lib.sh"
C=$SRC/cmd/completion
mkdir data other work
echo '{"alpaca_en": {"file_name": "a.json"}, "alpaca_zh": {"file_name": "z.json"}, "far": {"hf_hub_url": "x/far"}}' >data/dataset_info.json
echo '{"mine": {"file_name": "m.json"}}' >other/dataset_info.json
cd work || exit 1
ln -s ../data data
mkdir directory
touch some.yaml

# table PROGRAM: long name, type, argument, known words of its options that have words
table()
{
	$1 --list-options | awk -F '\t' '$5 != "-" { print $1, $3, $4, $5 }'
}

# What is listed comes from where the programs take it.
ok 'datasets are listed' df-pack --list-datasets
is '  those that are files' "$(tr '\n' ' ' <"$T/out")" 'alpaca_en alpaca_zh '
is '  of the directory that is named' "$(df-pack --list-datasets --dataset-dir ../other)" mine
exits 66 '  and there must be one' df-pack --list-datasets --dataset-dir nowhere
is 'templates among the options' "$(table df-pack | awk '$1 == "template" { gsub(/\|/, "\n", $4); print $4 }')" \
	"$(df-pack --list-templates | sed 's/ .*//')"
is 'devices' "$(table df-grad | awk '$1 == "device" { print $4 }')" 'auto|cpu|openblas|poison|reference'
is 'zsh: the programs' "$(sed -n '1s/#compdef //p' "$C/_df-tools")" "$(cd "$SRC/cmd" && echo df-*.c | sed 's/\.c//g')"
[ -n "$(df-train --list-keys)" ] && [ -n "$(df-score --list)" ]
report $? 'keys and methods'

# expect 'what' GOT WORD...: exactly these words, in any order
expect()
{
	local what=$1 got=$2

	shift 2
	is "$what" "$(tr ' ' '\n' <<<"$got" | sort | paste -sd' ')" "$(printf '%s\n' "$@" | sort | paste -sd' ')"
}

# --- bash: words as readline splits them, "=" one of its own ---

# in_bash WORD...: what is offered for the last one, without files; with "compopt NAME" for what readline is told
in_bash()
(
	compopt() { [ "${COMPOPT-}" = '' ] || echo "compopt $2"; }
	complete() { :; }
	# shellcheck source=/dev/null
	. "$C/df-tools.bash"
	COMP_WORDS=("$@")
	COMP_CWORD=$(($# - 1))
	COMPREPLY=()
	_df_tools "$1"
	echo "${COMPREPLY[*]}"
)
expect 'bash: an option' "$(in_bash df-train --in)" --index=
expect 'bash: a flag' "$(in_bash df-grad --lo)" --losses
expect 'bash: no flag' "$(in_bash df-pack --no-pa)" --no-packing
expect 'bash: choices' "$(in_bash df-grad --form = a)" adam
expect 'bash: a choice as a word' "$(in_bash df-pack --stage p)" pt
expect 'bash: datasets' "$(in_bash df-pack --dataset '')" alpaca_en alpaca_zh
expect 'bash: the next dataset' "$(in_bash df-eval --dataset = alpaca_en,alp)" alpaca_en,alpaca_en alpaca_en,alpaca_zh
expect 'bash: of another directory' "$(in_bash df-sample --dataset-dir = ../other --dataset '')" mine
expect 'bash: to be held out' "$(in_bash df-pack --holdout = alpaca_z)" alpaca_zh=
expect 'bash: a template' "$(in_bash df-pack --template llama)" llama2 llama2_zh llama3 llama4
expect 'bash: methods' "$(in_bash df-score ra)" random
expect 'bash: keys' "$(in_bash df-train some.yaml lr_sch)" lr_scheduler_type= lr_scheduler_kwargs=
expect 'bash: values of keys' "$(in_bash df-train some.yaml lr_scheduler_type = line)" linear
expect 'bash: true or false' "$(in_bash df-train use_rslora = '')" true false
expect 'bash: a word or a file' "$(in_bash df-show --tokenizer = '')" bytes data directory some.yaml
expect 'bash: by a path' "$(cd "$BUILD" && in_bash bin/df-score le)" less
is_empty 'bash: no number' "$(in_bash df-grad -j '')"
is 'bash: files after a flag' "$(COMPOPT=1 in_bash df-grad -q '')" $'compopt default'
is 'bash: directories' "$(COMPOPT=1 in_bash df-grad -m '')" $'compopt dirnames'
is 'bash: files after a method' "$(COMPOPT=1 in_bash df-score less '')" $'compopt default'
expect 'bash: an option of a method' "$(in_bash df-score -q less --val-)" --val-agg=
expect 'bash: its choices' "$(in_bash df-score less --val-agg = '')" mean-of-cosine cosine-of-mean
is_empty 'bash: none of another method' "$(in_bash df-score random --val-)"
commands >"$T/commands"
while read -r p <&3; do
	expect "bash: $p: all options" "$(in_bash $p --)" $($p --list-options |
		awk -F '\t' '{ print "--" $1 ($3 == "flag" || $3 == "count" ? "" : "=") }')
	while read -r long type arg known; do
		case $arg in
		FILE | TOK | WHAT) known="$known|data|directory|some.yaml" ;;
		esac
		expect "bash: $p --$long ($type)" "$(in_bash $p "--$long" = '')" ${known//|/ }
	done < <(table "$p")
done 3<"$T/commands"

# --- fish says itself what it offers ---

# in_fish LINE: what is offered at its end, without files and explanations
in_fish()
{
	XDG_CONFIG_HOME=$T/config XDG_DATA_HOME=$T/share fish -c "set -p fish_complete_path $T/fish; complete -C '$1'" 2>"$T/err" | cut -f1
	[ ! -s "$T/err" ] || cat "$T/err"
}
if command -v fish >/dev/null 2>&1; then
	mkdir "$T/fish"
	for path in "$BUILD"/bin/df-*; do
		cp "$C/df-tools.fish" "$T/fish/${path##*/}.fish"
	done
	expect 'fish: an option' "$(in_fish 'df-train --in')" --index
	expect 'fish: choices' "$(in_fish 'df-grad --form=a')" --form=adam
	expect 'fish: a choice as a word' "$(in_fish 'df-grad --form ')" sgd adam sign
	expect 'fish: datasets' "$(in_fish 'df-pack --dataset ')" alpaca_en alpaca_zh
	expect 'fish: the next dataset' "$(in_fish 'df-eval --dataset=alpaca_en,alp')" --dataset=alpaca_en,alpaca_en --dataset=alpaca_en,alpaca_zh
	expect 'fish: of another directory' "$(in_fish 'df-sample --dataset-dir=../other --dataset ')" mine
	expect 'fish: to be held out' "$(in_fish 'df-pack --holdout alpaca_z')" alpaca_zh=
	expect 'fish: a template' "$(in_fish 'df-pack --template llama')" llama2 llama2_zh llama3 llama4
	expect 'fish: methods' "$(in_fish 'df-score ra')" random
	expect 'fish: keys' "$(in_fish 'df-train some.yaml lr_sch')" lr_scheduler_type= lr_scheduler_kwargs=
	expect 'fish: values of keys' "$(in_fish 'df-train some.yaml lr_scheduler_type=line')" lr_scheduler_type=linear
	expect 'fish: a device' "$(in_fish 'df-embed --device ')" auto cpu openblas poison reference
	expect 'fish: a word or a file' "$(in_fish 'df-show --tokenizer ')" bytes data/ directory/ some.yaml
	expect 'fish: directories' "$(in_fish 'df-grad -m d')" data/ directory/
	expect 'fish: an option of a method' "$(in_fish 'df-score -q less --val-')" --val-agg
	expect 'fish: its choices' "$(in_fish 'df-score less --val-agg ')" mean-of-cosine cosine-of-mean
	is_empty 'fish: none of another method' "$(in_fish 'df-score random --val-')"
	expect 'fish: by a path' "$(in_fish "$BUILD/bin/df-score le")" less
else
	skip 'fish' 'no fish here'
fi

# --- zsh: what its completion hands to compadd ---

in_zsh()
{
	zsh -f "$SRC/tests/cmd/completion.zsh" "$C" "$1"
}
if command -v zsh >/dev/null 2>&1; then
	expect 'zsh: an option' "$(in_zsh 'df-train --in')" --index
	expect 'zsh: choices' "$(in_zsh 'df-grad --form=a')" adam
	expect 'zsh: a choice as a word' "$(in_zsh 'df-grad --form ')" sgd adam sign
	expect 'zsh: datasets' "$(in_zsh 'df-pack --dataset ')" alpaca_en alpaca_zh
	expect 'zsh: the next dataset' "$(in_zsh 'df-eval --dataset=alpaca_en,alp')" alpaca_en alpaca_zh
	expect 'zsh: of another directory' "$(in_zsh 'df-sample --dataset-dir=../other --dataset ')" mine
	expect 'zsh: to be held out' "$(in_zsh 'df-pack --holdout alpaca_z')" alpaca_zh=
	expect 'zsh: a template' "$(in_zsh 'df-pack --template llama')" llama2 llama2_zh llama3 llama4
	expect 'zsh: methods' "$(in_zsh 'df-score ra')" random
	expect 'zsh: keys' "$(in_zsh 'df-train some.yaml lr_sch')" lr_scheduler_type= lr_scheduler_kwargs=
	expect 'zsh: values of keys' "$(in_zsh 'df-train some.yaml lr_scheduler_type=line')" linear
	expect 'zsh: a device' "$(in_zsh 'df-embed --device ')" auto cpu openblas poison reference
	expect 'zsh: a word or a file' "$(in_zsh 'df-show --tokenizer=')" bytes data directory some.yaml
	expect 'zsh: directories' "$(in_zsh 'df-grad -m d')" data directory
	expect 'zsh: an option of a method' "$(in_zsh 'df-score -q less --val-')" --val-agg
	expect 'zsh: its choices' "$(in_zsh 'df-score less --val-agg ')" mean-of-cosine cosine-of-mean
	is_empty 'zsh: none of another method' "$(in_zsh 'df-score random --val-')"
	expect 'zsh: by a path' "$(in_zsh "$BUILD/bin/df-score le")" less
else
	skip 'zsh' 'no zsh here'
fi
done_testing
